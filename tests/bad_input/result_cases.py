"""What the programs refuse that make tables, figures and measurements from runs."""

from collections.abc import Callable
from typing import Any

import torch

from bad_input.case import Case
from bad_input.place import RUN, Place, encoded, noise

PROGRAMS = ("reproduce", "figure", "audit", "calibrate", "benchmark", "collect", "sample", "report")
Prepare = Callable[[Place], Any]


def nothing(place: Place) -> None:
    """The working directory stays empty."""


def faces(place: Place) -> None:
    """Four images in the layout of the data set celeba_64, below the folder d."""
    names = [f"images/{number}.png" for number in range(4)]
    place.write({f"d/celeba_64/{name}": encoded(noise(64, 64, seed)) for seed, name in enumerate(names)})
    lists = {"train": names[:1], "val": names[1:2], "test": names[2:]}
    place.write({f"d/celeba_64/{split}.txt": "\n".join(part).encode() for split, part in lists.items()})


def wrong(name: str) -> Callable[..., Case]:
    """Makes the cases of one script."""

    def case(
        id: str,
        words: str,
        cause: str,
        fix: str,
        why: str,
        prepare: Prepare = nothing,
        skip: str | None = None,
    ) -> Case:
        return Case(f"{name}-{id}", f"scripts/{name}.py", tuple(words.split()), cause, fix, why, prepare, skip=skip)

    return case


reproduce, figure, audit, calibrate, benchmark, collect, sample, report = map(wrong, PROGRAMS)
HAS_GPU = "this machine has a GPU" if torch.cuda.is_available() else None

REPRODUCTIONS = [
    reproduce("nothing", "", "no table given", "table=", "no argument at all"),
    reproduce("word", "photos", "cannot read photos", "key=value", "as an argument"),
    reproduce("no-such-table", "table=12", "table=12: no such table", "one of table1", "the paper has eleven"),
    reproduce("no-such-row", "table=1 rows=cats", "rows=cats", "its rows are", "another table's row"),
    reproduce("no-such-group", "table=7 groups=vae", "groups=vae: table7 has no such group",
              "its groups are vae_reconstruction", "another table's group"),
    reproduce("groups-of-all", "table=all groups=pix2pix", "groups", "one table", "groups have names within a table"),
    reproduce("rows-of-all", "table=all rows=celeba_with", "rows", "one table", "rows have names within a table"),
    reproduce("no-such-scale", "table=1 scale=tiny", "scale=tiny", "one of cpu, paper", "not a scale"),
    reproduce("no-seeds", "table=1 seeds=0", "seeds=0", "at least 1", "nothing to do"),
    reproduce("seeds-of-text", "table=1 seeds=many", "seeds=many", "an integer", "not a number"),
    reproduce("no-such-launcher", "table=1 launcher=pbs", "launcher=pbs", "slurm or local", "another cluster"),
    reproduce("slurm-alone", "table=1 slurm.gpus=1", "slurm", "launcher=slurm", "parameters of nothing"),
    reproduce("slurm-value", "table=1 launcher=local slurm.timeout_min=[1", r"slurm\.timeout_min", "expected numbers",
              "a bracket that is not closed"),
    reproduce("truth", "table=1 plan=maybe", "plan=maybe", "true or false", "neither"),
    reproduce("set-by-table", "table=1 plan=true model=vae", "model=vae", "set by the table", "a row of another model"),
    reproduce("set-by-rows", "table=photos loss.ffl=true", r"loss\.ffl=true", "set by the table", "rows differ in it"),
    reproduce("set-by-scale", "table=6 scale=cpu dataset.image_size=64", r"dataset\.image_size=64", "set by the table",
              "what the scale says of this table"),
    reproduce("reserved", "table=1 plan=true resume=auto", "resume=auto", "set by the table", "every run is resumed"),
    reproduce("unknown-override", "table=photos plan=true loss.alfa=2", r"loss\.alfa", r"did you mean loss\.alpha",
              "would be found when the first run starts"),
    reproduce("misspelt-override", "table=photos trainer.epoch=1", r"unknown key trainer\.epoch",
              r"did you mean trainer\.epochs", "a typing error"),
    reproduce("no-epochs", "table=photos trainer.epochs=0", r"trainer\.epochs=0", "at least 1", "nothing to train"),
    reproduce("wrong-type", "table=photos plan=true trainer.epochs=many", r"trainer\.epochs=many", "an integer",
              "would be found when the first run starts"),
]  # fmt: skip

FIGURES = [
    figure("nothing", "", "no figure given", "one of 1, 2", "no argument at all"),
    figure("drawing", "4", "figure 4: no such figure", "one of 1, 2", "a drawing in the paper"),
    figure("flag", "2 --size=cpu", "--size", "allowed|key=value", "options of other programs"),
    figure("word", "2 cpu", "cannot read cpu", "key=value", "as an argument"),
    figure("unknown-key", "2 scael=cpu", "unknown key scael", "did you mean scale", "a typing error"),
    figure("key-of-another", "2 runs=a,b", "runs=a,b", "it takes", "a figure of one image"),
    figure("no-such-scale", "5 scale=tiny", "scale=tiny", "one of cpu, paper", "not a scale"),
    figure("images-of-text", "9 images=none", "images=none", "an integer at least 1", "not a number"),
    figure("one-run-for-two", "14 runs=nowhere", "runs=nowhere", r"takes 2 runs \(w/o FFL, w/ FFL\)", "forgot one"),
    figure("key-of-one-for-all", "all image=x", "image=x: all does not take it", "data_root, out, output_root, scale",
           "only some show one image"),
    figure("file-for-all", "all out=x.png", r"out=x\.png", "expected a folder", "would hold the last figure alone"),
    figure("key-of-tables", "comparison runs=a scale=cpu", "scale=cpu: figure comparison does not take it",
           "it takes labels, out, runs", "runs have their scale"),
    figure("bands-of-no-model", "bands model=unet", "model=unet: not in this figure", "one of ae, vae",
           "a model of another project"),
    figure("runs-of-records", "bands runs=a,b", "runs=a,b: figure bands does not take it", "it takes .*model",
           "bands are those of tables"),
    figure("model-of-all-gains", "gains model=ae", "model=ae: figure gains does not take it", "it takes .*scale",
           "gains are compared over all models"),
    figure("no-images", "9 images=0", "images=0", "at least 1", "a mean of nothing"),
    figure("other-format", "2 out=a.jpg", r"out=a\.jpg", r"\.png", "made as PNG and PDF"),
    figure("no-image", "2 image=a.png", r"image=a\.png", "No such file|no such file", "moved away"),
    figure("text-image", "2 image=a.png", r"image=a\.png: not a readable image", "not an image", "renamed by hand",
           lambda place: place.write({"a.png": b"hello"})),
    figure("small-image", "2 image=a.png", r"image=a\.png: 16x16", "or more", "would be enlarged",
           lambda place: place.write({"a.png": encoded(noise(16, 16))})),
    figure("no-runs", "5", "run", r"python scripts/reproduce\.py", "nothing is trained yet"),
    figure("no-such-runs", "5 runs=a,b", "a", "run directory|takes", "moved away"),
    figure("comparison-of-nothing", "comparison", "runs=", "comparison", "of which runs?"),
    figure("comparison-of-no-run", "comparison runs=nowhere", "nowhere", "run directory", "moved away"),
    figure("one-label-for-two", f"comparison runs={RUN},{RUN} labels=ours", "labels", "2|as many|each|one per",
           "which one is it?", Place.run),
]  # fmt: skip

AUDITS = [
    audit("word", "cpu", "cannot read cpu", "key=value", "as an argument"),
    audit("unknown-key", "scael=cpu", "unknown key scael", "did you mean scale", "a typing error"),
    audit("no-such-scale", "scale=tiny", "scale=tiny", "one of cpu, paper", "not a scale"),
    *[
        audit(f"{id}-table", "scale=cpu", r"results/cpu/table1\.json", "reproduce|make it again|delete", why,
              lambda place, content=content: place.write({"outputs/results/cpu/table1.json": content}))
        for id, content, why in (
            ("binary", b"\xff\xfe", "damaged"),
            ("empty", b"", "a full disk"),
            ("half", b'{"title": "Table 1", "rows": {', "killed while writing"),
            ("list", b"[]", "another file of that name"),
            ("text-for-number", b'{"rows": {"celeba_without": "much better"}}', "edited by hand"),
        )
    ],
    audit("another-key", "table=1", "unknown key table", "allowed: out, results, scale", "an option of another script"),
    audit("binary-costs", "scale=cpu", r"benchmark/overhead\.json: not a readable JSON", "make it again", "damaged",
          lambda place: place.write({"outputs/results/benchmark/overhead.json": b"{"})),
    *[
        audit(f"{id}-figure", "scale=cpu", r"results/cpu/figure9\.json: not a readable figure",
              r"make it again with scripts/figure\.py", why,
              lambda place, content=content: place.write({"outputs/results/cpu/figure9.json": content}))
        for id, content, why in (
            ("half", b'{"figure": 9, "values": {', "killed while writing"),
            ("text-in", b'{"figure": 9, "runs": {"w/o FFL": {"seed": 1}}, "values": {"images": 9,'
             b' "mean_absolute_gap_db": {"w/o FFL": {"averages": "low"}}}}', "edited by hand"),
        )
    ],
    audit("no-results", "results=nowhere", "results=nowhere: no such folder", r"out=DIR", "moved away"),
    audit("results-is-file", "results=a.txt", r"a\.txt", "results=|directory|folder", "a file has that name",
          lambda place: place.write({"a.txt": b""})),
]  # fmt: skip

REPORTS = [
    report("word", "cpu", "cannot read cpu", "key=value", "as an argument"),
    report("unknown-key", "scael=cpu", "unknown key scael", "did you mean scale", "a typing error"),
    report("no-such-scale", "scale=tiny", "scale=tiny", "one of cpu, paper", "not a scale"),
    report("no-results", "results=nowhere", "results=nowhere: no such folder", "out=DIR", "moved away"),
    report("no-runs", "runs=nowhere", "runs=nowhere: no such folder", "outputs by default", "moved away"),
    report("no-run", "run=a.txt", "run=a.txt: no such folder", "run directory", "a file has that name",
           lambda place: place.write({"a.txt": b""})),
    report("run-and-scale", f"run={RUN} scale=cpu", "scale=cpu", "leave scale out", "of all runs, or of one?",
           Place.run),
    report("no-images", "images=0", "images=0", "at least 1", "nothing to show"),
    report("empty-results", "results=own", "no table of scale=cpu in own", "reproduce", "another folder",
           lambda place: place.write({"own/a.txt": b""})),
    *[
        report(f"{id}-table", "results=own", r"own/cpu/table1\.json", "make it again", why,
               lambda place, content=content: place.write({"own/cpu/table1.json": content}))
        for id, content, why in (
            ("binary", b"\xff\xfe", "damaged"),
            ("empty", b"", "a full disk"),
            ("list", b"[]", "another file of that name"),
        )
    ],
]  # fmt: skip

FACES = "datasets=celeba_64 metrics=psnr"
CALIBRATIONS = [
    calibrate("word", "faces", "cannot read faces", "key=value", "as an argument"),
    calibrate("no-such-metric", "metrics=sharpness", "unknown metric sharpness", "expected some of", "not a metric"),
    calibrate("labels", "metrics=miou", "miou: compares with label maps", "leave it out of metrics", "of photographs"),
    calibrate("weights", "metrics=fid", "pt_inception.*not in weights", "run: python", "asked for, and not there"),
    calibrate("no-such-set", "datasets=photos", "datasets=photos", "one of celeba_64", "another data set"),
    calibrate("no-data", FACES, "folder data/celeba_64 is missing", "with train.txt", "no data"),
    calibrate("few-images", f"{FACES} images=1 data_root=d", r"psnr: needs at least 1 .*of celeba_64 are 0",
              "raise images=1", "no halves of one image", faces),
    calibrate("no-images", f"{FACES} images=0", "images=0", "at least 1", "nothing to damage"),
    calibrate("no-results", f"{FACES} data_root=d results=nowhere", "results=nowhere: no such folder", "out=DIR",
              "moved away", faces),
    calibrate("out-is-file", f"{FACES} data_root=d out=d/celeba_64/test.txt", r"out=.*test\.txt: not a folder",
              "another name", "a file has that name", faces),
]  # fmt: skip

BENCHMARKS = [
    benchmark("no-such-subset", "speed", "speed", "loss", "not a measurement"),
    benchmark("unknown-key", "loss round=1", "unknown key round", "allowed: ", "a typing error"),
    benchmark("no-rounds", "loss rounds=0", "rounds=0", "from 1 up|at least 1", "nothing to take the median of"),
    benchmark("no-such-model", "overhead models=resnet", "resnet", "one of ae, vae", "not implemented"),
    benchmark("threads-of-text", "loss threads=all", "threads=all", "an integer", "not a number"),
    benchmark("many-threads", "loss small=true threads=5000", "threads=5000", "at most|below|from 1 to",
              "the threading library ends the process"),
    benchmark("tpu", "loss accelerator=tpu", "accelerator=tpu", "auto, cpu or cuda|one of auto", "not supported"),
    benchmark("cuda", "loss accelerator=cuda", "cuda", "cpu or auto", "a machine without a GPU", skip=HAS_GPU),
    benchmark("json-is-folder", "loss small=true rounds=1 json=.", "json=.", r"\.json", "a folder",),
    benchmark("json-below-file", "loss small=true rounds=1 json=a.txt/b.json", r"a\.txt", "json=|another",
              "found when everything is measured", lambda place: place.write({"a.txt": b""})),
]  # fmt: skip

SAMPLES = [
    sample("nothing", "", "run is missing", "expected run=", "no argument at all"),
    sample("unknown-key", "run=x seed=1", "unknown key seed", "did you mean seeds", "another name"),
    sample("no-run", "run=nowhere", "nowhere: not a run directory", r"config\.yaml", "moved away"),
    sample("other-model", f"run={RUN}", f"{RUN}: holds a ae", "only StyleGAN2", "no seeds there", Place.run),
    sample("seeds-of-text", f"run={RUN} seeds=all", "seeds=all", "such as 0-3,7", "not numbers", Place.run),
    sample("seeds-backwards", f"run={RUN} seeds=7-3", "seeds=7-3", "such as 0-3,7", "an empty range", Place.run),
    sample("many-seeds", f"run={RUN} seeds=0-99999", "seeds=0-99999", "at most|fewer", "fills the memory", Place.run),
    sample("not-a-number", f"run={RUN} psi=nan", "psi=nan", "expected a number", "black images", Place.run),
    sample("no-columns", f"run={RUN} columns=0", "columns=0", "at least 1", "no picture", Place.run),
    sample("no-such-noise", f"run={RUN} noise=white", "noise=white", "one of const", "not a kind", Place.run),
]  # fmt: skip

COLLECTIONS = [
    collect("nothing", "", "no runs given", "such as", "no argument at all"),
    collect("no-runs", "outputs/*", r"outputs/\*: no run directories", "such as 'outputs/ae", "moved away"),
    collect("no-such-plot", f"{RUN} plot=quality", "plot=quality: no such column", "there are", "another name",
            Place.run),
    collect("no-such-column", f"{RUN} sort=quality", "sort=quality: no such column", "there are", "another name",
            Place.run),
    collect("unknown-key", f"{RUN} by=psnr", "by", "sort|allowed|out", "another name", Place.run),
    collect("other-format", f"{RUN} out=table.xlsx", r"out=table\.xlsx", r"\.csv", "a table of text", Place.run),
    collect("out-below-file", f"{RUN} out=x/000000.png/table.csv", r"000000\.png", "out=|another", "a file is there",
            Place.run),
    collect("damaged-config", RUN, r"config\.yaml: not a readable configuration", "copy|train", "damaged",
            lambda place: (place.run() / "config.yaml").write_bytes(b"\xff\xfe")),
    *[
        collect(f"{id}-metrics", RUN, r"outputs/run/metrics\.json", "evaluate the run again", why,
                lambda place, content=content: (place.run() / "metrics.json").write_bytes(content))
        for id, content, why in (
            ("half", b'{"psnr": 20.', "killed while writing"),
            ("list", b"[1, 2]", "another file of that name"),
            ("binary", b"\xff\xfe", "damaged"),
        )
    ],
]  # fmt: skip

CASES = [*REPRODUCTIONS, *FIGURES, *AUDITS, *REPORTS, *CALIBRATIONS, *BENCHMARKS, *SAMPLES, *COLLECTIONS]
