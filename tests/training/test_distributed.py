"""Several processes are one run: same arithmetic, same updates, one writer."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from metrics.tiny_networks import random_images, tiny_features
from PIL import Image
from processes import Program, evaluate_program, free_port, ranks, train_program, wait_until, write_images
from small_models import NumberedImages, flat, in_double, small_batch, small_model, step_gradients
from tiny_runs import state_hash
from torch import nn

import train
from ffl.errors import SharedError, UserError
from ffl.training import distributed
from ffl.training.checkpoint import load_checkpoint
from ffl.training.loader import Loader
from ffl.training.objective import Objective
from ffl.training.program import compose
from ffl.training.randomness import epoch_order, seed_weights
from ffl.training.step import TrainingStep
from models import MODELS
from models.ae import VanillaAutoencoder

ROOT = Path(__file__).resolve().parents[2]


def _norm_and_data() -> tuple[distributed.SyncBatchNorm2d, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    norm = distributed.SyncBatchNorm2d(3).double()
    norm.weight.data.copy_(torch.rand(3, generator=generator))
    return norm, torch.randn(6, 3, 4, 5, generator=generator, dtype=torch.float64) * 2 + 1


def _normalise_half() -> None:
    distributed.start(torch.device("cpu"))
    rank = distributed.rank()
    norm, data = _norm_and_data()
    mine = data[rank::2].clone().requires_grad_()
    out = norm(mine)
    (out * torch.arange(1, out.numel() + 1, dtype=torch.float64).view_as(out).sin()).sum().backward()
    assert norm.weight.grad is not None
    torch.save(
        {"out": out.detach(), "grad": mine.grad, "weight_grad": norm.weight.grad, "state": norm.state_dict()},
        f"{rank}.pt",
    )
    large = distributed.SyncBatchNorm2d(1, affine=False)(torch.tensor([900.0, -900.0]).view(2, 1, 1, 1).half())
    assert large.dtype == torch.float16
    assert large.flatten().tolist() == [1, -1]  # the variance alone is beyond float16
    distributed.stop()


def test_batch_norm_of_two_processes_equals_that_of_one_on_the_whole_batch(tmp_path: Path) -> None:
    programs = ranks(_normalise_half, cwd=tmp_path)
    assert [program.wait() for program in programs] == [0, 0], [program.err for program in programs]
    halves = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    norm, data = _norm_and_data()
    whole = nn.BatchNorm2d(3).double()
    whole.load_state_dict(norm.state_dict())
    data.requires_grad_()
    out = whole(data)
    half = torch.empty(3, 3, 4, 5)
    weights = torch.arange(1, half.numel() + 1, dtype=torch.float64).view_as(half).sin()
    torch.stack([(out[rank::2] * weights).sum() for rank in range(2)]).sum().backward()
    assert data.grad is not None
    for rank, got in enumerate(halves):
        assert torch.allclose(got["out"], out[rank::2], rtol=1e-10, atol=1e-12)
        assert torch.allclose(got["grad"], data.grad[rank::2], rtol=1e-9, atol=1e-12)
        for key, value in whole.state_dict().items():
            assert torch.allclose(got["state"][key].double(), value.double(), rtol=1e-12), key
    total = halves[0]["weight_grad"] + halves[1]["weight_grad"]
    assert torch.allclose(total, whole.weight.grad, rtol=1e-9)


def _exchange() -> None:
    distributed.start(torch.device("cpu"))
    rank = distributed.rank()
    parameters = [nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(1))]
    parameters[0].grad = torch.full((2, 3), float(rank))
    parameters[1].grad = torch.arange(4.0) * (rank + 1)
    distributed.average_gradients(parameters)
    assert torch.equal(parameters[0].grad, torch.full((2, 3), 0.5))
    assert torch.equal(parameters[1].grad, torch.arange(4.0) * 1.5)
    assert parameters[2].grad is None
    assert distributed.on_main(lambda: distributed.rank() + 10) == 10

    def fail(where: str) -> None:
        raise UserError(f"{where}: not a run directory")

    with pytest.raises(SharedError, match="nowhere"):
        distributed.on_main(lambda: fail("nowhere"))

    @distributed.share_errors()
    def fail_in_one() -> None:
        if rank == 1:
            fail("here alone")
        distributed.on_main(lambda: None)  # process 0 waits in here and learns of it

    with pytest.raises(SharedError, match="here alone: not a run directory"):
        fail_in_one()
    network = nn.BatchNorm2d(2)
    network.running_mean.fill_(rank + 1)
    network.num_batches_tracked.fill_(rank + 5)
    distributed.broadcast_buffers(network)
    assert (network.running_mean.tolist(), network.num_batches_tracked.item()) == ([1, 1], 5)
    assert distributed.all_reduce_any([rank == 0, rank == 1, False]) == [True, True, False]
    assert distributed.share("abcde") == ("ace", "bd")[rank]
    distributed.stop()


def test_gradients_are_means_and_decisions_of_process_0_reach_all(tmp_path: Path) -> None:
    programs = ranks(_exchange, cwd=tmp_path)
    assert [program.wait() for program in programs] == [0, 0], [program.err for program in programs]


SWEEP = [
    "debug=smoke",
    "loss.ffl=true",
    "dataset.image_size=32",
    "dataset.train_images=32",
    "dataset.val_images=2",
    "trainer.accelerator=cpu",
    "trainer.steps=2",
    "trainer.val_images=0",
    "trainer.image_every=100",
    "trainer.log_every=1",
]


def _shards(count: int) -> dict[int, dict[str, torch.Tensor]]:
    """The small batch in float64, dealt out."""
    batch = in_double(small_batch())
    return {number: {key: value[number::count] for key, value in batch.items()} for number in range(count)}


def _differentiate() -> None:
    distributed.start(torch.device("cpu"))
    rank = distributed.rank()
    found = {name: step_gradients(small_model(name).double(), {rank: _shards(2)[rank]}) for name in MODELS}
    found["share"] = step_gradients(small_model("pix2pix", share=0.25).double(), {rank: _shards(2)[rank]})
    torch.save(found, f"{rank}.pt")
    distributed.stop()


def test_gradients_of_two_processes_are_those_of_one_for_every_model(tmp_path: Path) -> None:
    """One process takes the shards in turn: the test of gradient accumulation too.

    SPADE's batch normalisation sees all processes, so that its gradients are those of the whole batch; so are those of
    the autoencoder, which has no term that depends on the batch. In float64 all of them agree to rounding. A weight
    that sets itself is read in the first shard alone, and all take it.
    """
    programs = ranks(_differentiate, cwd=tmp_path)
    assert [program.wait(300) for program in programs] == [0, 0], [program.err for program in programs]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for name in MODELS:
        for count in {"ae": (1, 2), "spade": (1,)}.get(name, (2,)):
            one = step_gradients(small_model(name).double(), _shards(count))
            for ours, theirs, other in zip(first[name], second[name], one, strict=True):
                assert ours.keys() == theirs.keys() == other.keys()
                assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
                assert (flat(ours) - flat(other)).norm() <= 1e-9 * flat(other).norm(), name
    one = step_gradients(small_model("pix2pix", share=0.25).double(), _shards(2))
    for ours, theirs, other in zip(first["share"], second["share"], one, strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
        assert (flat(ours) - flat(other)).norm() <= 1e-9 * flat(other).norm()


@pytest.mark.slow
def test_two_processes_train_every_model_from_the_losses_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole program under torchrun, with a sweep: the losses before the first update are those of the whole batch.

    Those of pix2pix's generator follow an update of its discriminator; what updates do with rounding is no matter of
    processes, and gradients are compared above.
    """
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
    methods = sorted(MODELS.keys() - {"segmenter"})  # which makes no images that FFL could compare
    models = f"model={','.join(methods)}"
    command = [sys.executable, *torchrun, str(ROOT / "train.py"), "-m", models, *SWEEP, "output_root=ranks"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained 2 steps") == len(methods)
    assert len([path for path in (tmp_path / "ranks").iterdir() if path.name != "sweep"]) == len(methods)
    monkeypatch.chdir(tmp_path)
    for model in methods:
        words = [f"model={model}", *SWEEP, f"trainer.accumulate={1 if model == 'spade' else 2}", "output_root=parts"]
        parts = train.train(compose("train", words), words)
        (ours,) = (tmp_path / "ranks").glob(f"{model}-*")
        first, whole = (
            json.loads((path / "log.jsonl").read_text().splitlines()[0])["losses"] for path in (ours, parts.path)
        )
        assert first.keys() == whole.keys()
        early = [key for key in whole if key.startswith("discriminator" if model == "pix2pix" else "generator")]
        assert early
        for key in early:
            assert first[key] == pytest.approx(whole[key], rel=1e-3, abs=1e-6), f"{model}: {key}"


@pytest.mark.parametrize(
    ("options", "global_batch"), [({}, True), ({"batch_matrix": True}, False), ({"ave_spectrum": True}, False)]
)
def test_what_depends_on_a_batch_is_of_a_shard(options: dict[str, bool], global_batch: bool) -> None:
    """The gradient is the mean over the shards of each one's own: of its largest weight, of its average spectra."""
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def gradient(shards: list[torch.Tensor]) -> torch.Tensor:
        seed_weights(0)
        model = VanillaAutoencoder((8, 8), Objective(ffl=True, **options), hidden_dim=4, mse_weight=0.0)
        TrainingStep(model, seed=0).run(0, {number: {"image": shard} for number, shard in enumerate(shards)})
        return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])

    dealt = gradient([images[0::2], images[1::2]])
    assert torch.allclose(dealt, (gradient([images[0::2]]) + gradient([images[1::2]])) / 2, rtol=1e-4, atol=1e-7)
    whole = gradient([images])
    assert (((dealt - whole).norm() < 1e-4 * whole.norm()).item()) is global_batch


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_an_epoch_over_processes_has_every_image_once(world_size: int) -> None:
    loaders = [
        Loader(NumberedImages(50), 12, 3, world_size * 2, list(range(rank, world_size * 2, world_size)))
        for rank in range(world_size)
    ]
    steps = range(loaders[0].steps_per_epoch)
    seen = [
        index
        for loader in loaders
        for step in steps
        for shard in loader.batch(step).values()
        for index in shard["index"].tolist()
    ]
    assert len(seen) == len(set(seen)) == 48
    assert set(range(50)) - set(seen) == set(epoch_order(3, 0, 50)[48:].tolist())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings of a run on a few small images, whose cache is made by the first who needs it."""
    folder = tmp_path_factory.mktemp("data")
    own = [f"cache_dir={folder / 'cache'}", "loss.ffl=true", "trainer.batch_size=8", "model.hidden_dim=16"]
    return [*write_images(folder / "images"), *own, "trainer.log_every=2", "trainer.image_every=1000"]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_ends_the_run_and_any_number_resumes_it(
    tmp_path: Path, small: list[str], victim: int
) -> None:
    command = [*small, "trainer.checkpoint_every=2", "name=run", "resume=auto"]
    programs = ranks(train_program, [*command, "trainer.steps=10000"], cwd=tmp_path)
    last = tmp_path / "outputs/run/checkpoints/last.pt"
    wait_until(last.exists, *programs)
    killed = time.monotonic()
    assert programs[victim].send(signal.SIGKILL)
    survivor = programs[1 - victim]
    assert survivor.wait(30) == 2
    assert time.monotonic() - killed < 30
    line = survivor.err.strip().splitlines()[-1]
    assert line.startswith("error: a process of this run ended, and the other 1 end with it")
    assert line.endswith("The same command with resume=auto continues")
    assert "Traceback" not in survivor.err
    assert programs[victim].wait() == -signal.SIGKILL
    assert programs[1].out == ""
    step = load_checkpoint(last)["step"]
    (tmp_path / "outputs/run/config.yaml").write_text(
        (tmp_path / "outputs/run/config.yaml").read_text().replace("steps: 10000", f"steps: {step + 4}")
    )
    for world_size, accumulate, warns in ((1, 2, False), (1, 1, True)):
        folder = tmp_path / f"{accumulate}"
        shutil.copytree(tmp_path / "outputs", folder / "outputs")
        words = [*command, f"trainer.steps={step + 4}", f"trainer.accumulate={accumulate}"]
        (again,) = ranks(train_program, words, cwd=folder, world_size=world_size)
        assert again.wait() == 0, again.err
        assert f"resuming outputs/run at step {step} of {step + 4}" in again.out
        said = "was trained on 2 shards and goes on with 1 (processes times trainer.accumulate)" in again.err
        assert said is warns
        assert load_checkpoint(folder / "outputs/run/checkpoints/last.pt")["step"] == step + 4


@pytest.fixture(scope="module")
def four(small: list[str]) -> list[str]:
    """Settings of a run of four processes that saves itself so often that a kill meets a checkpoint."""
    return [*small, "trainer.steps=20", "trainer.checkpoint_every=2", "model.hidden_dim=256", "name=run", "resume=auto"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, four: list[str]) -> str:
    """What the last checkpoint of that run holds where nothing happens to it."""
    folder = tmp_path_factory.mktemp("unbroken")
    programs = ranks(train_program, four, cwd=folder, world_size=4)
    assert [program.wait() for program in programs] == [0] * 4, programs[0].err
    return state_hash(load_checkpoint(folder / "outputs/run/checkpoints/last.pt"))


@pytest.mark.parametrize(("victim", "moment"), [(2, "step"), (0, "checkpoint")])
def test_one_of_four_killed_in_a_step_or_a_checkpoint_costs_no_number(
    tmp_path: Path, four: list[str], unbroken: str, victim: int, moment: str
) -> None:
    checkpoints = tmp_path / "outputs/run/checkpoints"
    programs = ranks(train_program, four, cwd=tmp_path, world_size=4)
    wait_until((checkpoints / "last.pt").exists, *programs)
    if moment == "checkpoint":  # process 0 writes it below another name
        wait_until(lambda: any(path.name.startswith(".") for path in checkpoints.iterdir()), *programs)
    assert programs[victim].send(signal.SIGKILL)
    survivors = [program for number, program in enumerate(programs) if number != victim]
    assert [program.wait(60) for program in survivors] == [2] * 3
    for program in survivors:
        assert "a process of this run ended, and the other 3 end with it" in program.err.strip().splitlines()[-1]
    again = ranks(train_program, four, cwd=tmp_path, world_size=4)
    assert [program.wait() for program in again] == [0] * 4, again[0].err
    assert "resuming outputs/run at step" in again[0].out
    assert state_hash(load_checkpoint(checkpoints / "last.pt")) == unbroken


def _evaluate_slowly(words: list[str]) -> None:
    """``python evaluate.py``, with time for a signal in each batch."""
    from ffl.metrics import METRICS

    update = METRICS["psnr"].update

    def slow_update(*arguments: torch.Tensor) -> None:
        update(*arguments)
        Path("busy").touch()
        time.sleep(0.5)

    METRICS["psnr"].update = slow_update  # type: ignore[method-assign]
    evaluate_program(words)


@pytest.mark.parametrize("victim", [0, 3])
def test_one_of_four_killed_in_an_evaluation_leaves_no_half_record(evaluated: Path, victim: int) -> None:
    words = ["run=outputs/vae", "metrics=[psnr]", "batch_size=2", f"out=killed{victim}"]
    (evaluated / "busy").unlink(missing_ok=True)
    programs = ranks(_evaluate_slowly, words, cwd=evaluated, world_size=4, name=f"killed{victim}")
    wait_until((evaluated / "busy").exists, *programs)
    assert programs[victim].send(signal.SIGKILL)
    survivors = [program for number, program in enumerate(programs) if number != victim]
    assert [program.wait(60) for program in survivors] == [2] * 3
    assert not list((evaluated / f"killed{victim}").glob("metrics*"))
    values = []
    for count in (4, 1):
        again = ranks(
            evaluate_program, [*words[:3], f"out=again{count}"], cwd=evaluated, world_size=count, name="again"
        )
        assert [program.wait() for program in again] == [0] * count, again[0].err
        (path,) = (evaluated / f"again{count}").glob("metrics*.json")
        values.append(json.loads(path.read_text())["psnr"])
    assert values[0] == values[1]


def test_a_mistake_of_all_processes_is_said_once(tmp_path: Path, small: list[str]) -> None:
    programs = ranks(train_program, [*small, "trainer.batch_size=7"], cwd=tmp_path)
    assert [program.wait() for program in programs] == [2, 2]
    said = [program.err for program in programs if "trainer.batch_size=7: must be a multiple of 2" in program.err]
    assert len(said) == 1
    assert not (tmp_path / "outputs").exists()


def test_slurm_tasks_are_processes_of_one_run(tmp_path: Path, small: list[str]) -> None:
    """What srun says of its tasks, said by hand."""
    step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_ID": str(free_port() - 20_000), "MASTER_ADDR": "127.0.0.1"}
    if not 0 <= int(step["SLURM_JOB_ID"]) < 10_000:
        step["MASTER_PORT"] = str(free_port())
    programs = [
        Program(
            train_program,
            [*small, "trainer.steps=2", "name=run"],
            cwd=tmp_path,
            environment={**step, "SLURM_PROCID": str(number), "SLURM_LOCALID": str(number)},
            name=f"task{number}",
        )
        for number in range(2)
    ]
    assert [program.wait() for program in programs] == [0, 0], programs[0].err
    assert load_checkpoint(tmp_path / "outputs/run/checkpoints/last.pt")["num_shards"] == 2
    assert ["trained 2 steps" in program.out for program in programs] == [True, False]


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("gpu07", "gpu07"), ("gpu[003-006,9]", "gpu003"), ("a1,b2", "a1"), ("n[12]", "n12"), ("host-a,host-b", "host-a")],
)
def test_slurm_tasks_meet_on_the_first_machine(nodes: str, first: str) -> None:
    variables = {"SLURM_STEP_NUM_TASKS": "16", "SLURM_STEP_NODELIST": nodes, "SLURM_JOB_ID": "123456"}
    variables |= {"SLURM_PROCID": "9", "SLURM_LOCALID": "1"}
    distributed._translate_slurm(variables)
    assert variables["MASTER_ADDR"] == first
    assert (variables["RANK"], variables["LOCAL_RANK"], variables["WORLD_SIZE"]) == ("9", "1", "16")
    assert variables["MASTER_PORT"] == "23456"


def test_a_batch_script_is_one_process_whatever_its_job_holds() -> None:
    for variables in ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, {"WORLD_SIZE": "2", "SLURM_STEP_NUM_TASKS": "4"}):
        before = dict(variables)
        distributed._translate_slurm(variables)
        assert variables == before


EXACT = {"psnr", "ssim", "lfd", "mse"}  # sums that are rounded once; the others add float64 in another order
ALL_PAIRS = "metrics=[psnr,ssim,lfd,mse,spectrum_distance,spectrum_distance_top]"
EVALUATIONS = {
    "reconstruction": ["run=outputs/vae", ALL_PAIRS, "save_images=true"],
    "synthesis": ["run=outputs/vae", "task=synthesis", "metrics=[spectrum_distance]", "num_images=30"],
    "one_batch": ["run=outputs/vae", ALL_PAIRS, "num_images=5"],  # the other process has nothing to do
    "folders": ["real=real", "fake=fake", ALL_PAIRS],
}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, small: list[str]) -> Path:
    """A folder with a run, and two folders of images, some smaller than the others."""
    folder = tmp_path_factory.mktemp("evaluated")
    words = [*small[:5], "trainer.batch_size=8", "trainer.steps=2", "model=vae", "model.channels=4", "name=vae"]
    words += ["dataset.test_fraction=0.5", f"output_root={folder / 'outputs'}"]
    train.train(compose("train", words), words)
    for name in ("real", "fake"):
        (folder / name).mkdir()
        for number in range(20):
            rng = np.random.default_rng(100 * len(list(folder.iterdir())) + number)
            side = 24 if number % 9 < 5 else 20
            Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run=outputs/vae", "num_images=999"], "num_images=999: the test split has 24 images"),
        (["real=real", "fake=outputs/vae/tensorboard"], "outputs/vae/tensorboard: no images in it"),
    ],
)
def test_what_an_evaluation_refuses_is_said_once(evaluated: Path, words: list[str], message: str) -> None:
    programs = ranks(evaluate_program, words, cwd=evaluated, name="refused")
    assert [program.wait() for program in programs] == [2, 2]
    assert [program.err.count(message) for program in programs] == [1, 0]


@pytest.mark.parametrize("name", EVALUATIONS)
def test_evaluation_by_two_processes_gives_the_numbers_of_one(evaluated: Path, name: str) -> None:
    metrics = [EVALUATIONS[name], [ALL_PAIRS.replace(",spectrum_distance,spectrum_distance_top", "")]]
    values = []
    for count in (1, 2):
        out = f"{name}{count}"
        words = [*metrics[0], "batch_size=7", f"out={out}"]
        if name == "folders":  # of images of one size alone are there spectra
            words[2] = metrics[1][0]
        programs = ranks(evaluate_program, words, cwd=evaluated, world_size=count, name=out)
        assert [program.wait() for program in programs] == [0] * count, programs[-1].err
        assert f"written to {out}/" in programs[0].out
        assert [program.out for program in programs[1:]] == [""] * (count - 1)
        (path,) = (evaluated / out).glob("metrics*.json")
        values.append(json.loads(path.read_text()))
        records = values[-1].pop("records")
        assert len(path.with_name("metrics.jsonl").read_text().splitlines()) == len(records)
        if name != "folders":
            values[-1] |= {f"bands {kind}": power for kind, power in records[-1]["details"].items() if power}
    assert len(values[0]) >= 1
    for metric, value in values[0].items():
        assert values[1][metric] == (value if metric in EXACT else pytest.approx(value, rel=1e-12)), metric
    if name == "reconstruction":
        images = [sorted((evaluated / f"{name}{count}" / f"{name}_images").iterdir()) for count in (1, 2)]
        assert [path.name for path in images[0]] == [path.name for path in images[1]]
        assert len(images[0]) == 24
        assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*images, strict=True))


def _measure_features(folder: str) -> None:
    """FID with a reference and Inception score, of a stand-in for Inception, by all processes of the run."""
    import ffl.training.evaluation as evaluation
    from ffl.metrics import FID, InceptionScore

    distributed.start(torch.device("cpu"))
    extractor = tiny_features()
    metrics = {"fid": FID(extractor=extractor, feature="64"), "is": InceptionScore(3, extractor=extractor)}
    evaluation.build_metric = lambda name, **options: metrics[name]
    real, fake = random_images(0, 33).split(4), random_images(1, 25, 16, 30, 220).split(4)
    places = torch.arange(25).split(4)
    batches = [
        evaluation.EvaluationBatch(real[0][:0], images, [], where) for images, where in zip(fake, places, strict=True)
    ]
    reference = evaluation.ReferenceCache(Path(folder), list(real), 33)

    def share(done: int) -> list[evaluation.EvaluationBatch]:
        return distributed.share(batches)[done:]

    records = evaluation.measure(["fid", "is"], share, 25, {}, {}, torch.device("cpu"), reference=reference)
    values = {record.metric: record.value for record in records} | {"floor": records[0].floor}
    print(json.dumps([values, extractor.network.calls]))
    distributed.stop()


def test_features_of_two_processes_give_the_scores_of_one(tmp_path: Path) -> None:
    printed = []
    for count in (1, 2, 2):  # the last finds the features of the real images in the folder
        programs = ranks(_measure_features, str(tmp_path / f"cache{count}"), cwd=tmp_path, world_size=count)
        assert [program.wait() for program in programs] == [0] * count, programs[-1].err
        printed += [json.loads(program.out) for program in programs]
    values, calls = zip(*printed, strict=True)
    expected = {name: pytest.approx(value, rel=1e-9) for name, value in values[0].items()}
    assert all(value == expected for value in values[1:])
    assert calls == (9 + 7, 5 + 4, 4 + 3, 4, 3)  # batches of real images and of generated ones
