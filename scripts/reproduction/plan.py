"""What a table would take: how far its runs are, which data they find, hours here, GPU hours at the paper's scale."""

import statistics
from dataclasses import dataclass, replace

from ffl.errors import UserError
from ffl.training.program import Config
from scripts.reproduction.cost import image_flops, measured_step
from scripts.reproduction.runs import Run, State, list_images, state_of, total_steps

# What one V100 did in the paper's only printed timing: an iteration of pix2pix on Facades, 86.9 GFLOP by our count,
# took 0.064 s (Appendix B.2). Larger models use a GPU better: their hours are too high here rather than too low.
V100_FLOPS = 86.9e9 / 0.064
# Training images of Appendix C; its danbooru has no number.
PAPER_IMAGES = {
    "celeba": 199_599,
    "celeba_hq": 27_000,
    "dtd": 4_512,
    "danbooru": 299_652,
    "facades": 400,
    "edges2shoes": 49_825,
    "cityscapes": 2_975,
    "ade20k": 20_210,
}


@dataclass(frozen=True)
class Estimate:
    """One run of a plan.

    Attributes:
        run: which.
        state: how far it is.
        data: images found; None where the data set is not there.
        left: steps left; None where there are no images to count them by.
        step_s: seconds per step here; None where there is nothing left or it cannot be trained here.
        step_from: where ``step_s`` comes from.
        problem: why it cannot be trained here; None where it can.
        gpu_hours: of one V100 at the paper's scale, an estimate; None for what the paper does not have.
    """

    run: Run
    state: State
    data: str | None = None
    left: int | None = None
    step_s: float | None = None
    step_from: str = ""
    problem: str | None = None
    gpu_hours: float | None = None

    @property
    def hours(self) -> float | None:
        """Left here."""
        return None if self.left is None or self.step_s is None else self.left * self.step_s / 3600


def estimate(run: Run, paper_run: Run) -> Estimate:
    """How far a run is and what it would take.

    Args:
        run: at the scale asked for.
        paper_run: the same cell at the paper's scale.
    """
    made = Estimate(run, state_of(run), gpu_hours=_gpu_hours(paper_run.config))
    try:
        listing = list_images(run.config)
        data = "embedded" if listing is None else ", ".join(f"{len(v):,} {k}" for k, v in listing.splits.items())
        made = replace(made, data=data, left=max(0, total_steps(run.config) - made.state.step))
        step_s, step_from = _step_seconds(run, made.state) if made.left else (None, "")
    except UserError as error:
        return replace(made, problem=str(error))
    return replace(made, step_s=step_s, step_from=step_from)


def _step_seconds(run: Run, state: State) -> tuple[float, str]:
    logged = [] if state.run is None else state.run.log_lines()
    if speeds := [line["images_per_second"] for line in logged if line["images_per_second"]]:
        return run.config["trainer"]["batch_size"] / statistics.median(speeds), "its log"
    return measured_step(run.config)


def _gpu_hours(config: Config) -> float | None:
    images = PAPER_IMAGES.get(config["dataset"]["name"])
    if images is None:
        return None
    trainer = config["trainer"]
    steps = trainer["steps"] or trainer["epochs"] * (images // trainer["batch_size"])
    return steps * trainer["batch_size"] * image_flops(config) / V100_FLOPS / 3600


def plan_text(estimates: list[Estimate]) -> str:
    """The plan as aligned text: a line per run and their sums, the data, the commands, and what the hours rest on."""
    rows = [("run", "state", "steps left", "step here", "from", "hours here", "V100 hours")]
    rows += [
        (
            item.run.name,
            str(item.state),
            "?" if item.left is None else f"{item.left:,}",
            "" if item.step_s is None else f"{item.step_s:.3g} s",
            item.step_from,
            "" if item.hours is None else f"{item.hours:.2f}",
            "" if item.gpu_hours is None else f"{item.gpu_hours:.1f}",
        )
        for item in estimates
    ]
    hours = sum(item.hours or 0.0 for item in estimates)
    gpu_hours = sum(item.gpu_hours or 0.0 for item in estimates)
    rows.append(("all", "", "", "", "", f"{hours:.2f}", f"{gpu_hours:.1f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join([*map(str.ljust, row[:2], widths[:2]), *map(str.rjust, row[2:], widths[2:])]).rstrip() for row in rows
    ]
    lines += ["", "Data found"]
    lines += [
        f"  {name}: {data or 'nothing'}" for name, data in sorted({i.run.dataset: i.data for i in estimates}.items())
    ]
    problems: dict[str, list[str]] = {}
    for item in estimates:
        if item.problem is not None:
            problems.setdefault(item.problem, []).append(item.run.name)
    lines += ["", "Cannot be trained here"] if problems else []
    lines += [f"  {problem}\n    {', '.join(names)}" for problem, names in problems.items()]
    lines += ["", "Commands: what is not finished is made by reproduce.py, or by hand and then found"]
    lines += [f"  {item.run.command}" for item in estimates]
    lines += [
        "",
        "Hours here: steps left times the step time; training alone. V100 hours: an estimate of the whole run at the",
        f"paper's scale, its operations as counted by torch at {V100_FLOPS / 1e12:.2f} TFLOP/s, which is what",
        "0.064 s per iteration of pix2pix come to (Appendix B.2).",
    ]
    return "\n".join(lines)
