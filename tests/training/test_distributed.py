"""Several processes are one run: same arithmetic, same updates, one writer."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import nn

from ffl import distributed
from ffl.errors import UserError
from ffl.objective import Objective
from ffl.training.loader import Loader
from ffl.training.program import compose
from ffl.training.randomness import seed_weights
from models import build_model

ROOT = Path(__file__).resolve().parents[2]


def _join(rank: int, world_size: int, port: int) -> None:
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    distributed.start(torch.device("cpu"))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _norm_and_data() -> tuple[distributed.SyncBatchNorm2d, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    norm = distributed.SyncBatchNorm2d(3).double()
    norm.weight.data.copy_(torch.rand(3, generator=generator))
    return norm, torch.randn(6, 3, 4, 5, generator=generator, dtype=torch.float64) * 2 + 1


def _normalise_half(rank: int, port: int, folder: str) -> None:
    _join(rank, 2, port)
    norm, data = _norm_and_data()
    mine = data[rank::2].clone().requires_grad_()
    out = norm(mine)
    (out * torch.arange(1, out.numel() + 1, dtype=torch.float64).view_as(out).sin()).sum().backward()
    assert norm.weight.grad is not None
    torch.save(
        {"out": out.detach(), "grad": mine.grad, "weight_grad": norm.weight.grad, "state": norm.state_dict()},
        f"{folder}/{rank}.pt",
    )
    distributed.stop()


def test_batch_norm_of_two_processes_equals_that_of_one_on_the_whole_batch(tmp_path: Path) -> None:
    multiprocessing.spawn(_normalise_half, (_free_port(), str(tmp_path)), nprocs=2)
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


def _average_gradients(rank: int, port: int, folder: str) -> None:
    _join(rank, 2, port)
    parameters = [nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(1))]
    parameters[0].grad = torch.full((2, 3), float(rank))
    parameters[1].grad = torch.arange(4.0) * (rank + 1)
    distributed.average_gradients(parameters)
    assert torch.equal(parameters[0].grad, torch.full((2, 3), 0.5))
    assert torch.equal(parameters[1].grad, torch.arange(4.0) * 1.5)
    assert parameters[2].grad is None
    assert distributed.on_main(lambda: distributed.rank() + 10) == 10

    def fail() -> None:
        raise UserError("nowhere: not a run directory")

    with pytest.raises(UserError, match="nowhere"):
        distributed.on_main(fail)
    Path(folder, f"done{rank}").touch()
    distributed.stop()


def test_gradients_are_means_and_decisions_of_process_0_reach_all(tmp_path: Path) -> None:
    multiprocessing.spawn(_average_gradients, (_free_port(), str(tmp_path)), nprocs=2)
    assert len(list(tmp_path.glob("done*"))) == 2


@pytest.mark.parametrize("model", ["vae", "stylegan2"])
def test_two_processes_update_as_one_that_takes_the_shards_in_turn(tmp_path: Path, model: str) -> None:
    """Also the test of gradient accumulation: what a step does depends on the shards, not on who works on them."""
    settings = [
        f"model={model}",
        "debug=smoke",
        "loss.ffl=true",
        "dataset.image_size=16",
        "trainer.steps=3",
        "trainer.checkpoint_every=3",
    ]
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={_free_port()}"]
    for launcher, extra in ((torchrun, "name=ranks"), ([], "name=parts")):
        accumulate = "trainer.accumulate=1" if launcher else "trainer.accumulate=2"
        command = [sys.executable, *launcher, str(ROOT / "train.py"), *settings, accumulate, extra]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("trained 3 steps") == 1
    assert sorted(path.name for path in (tmp_path / "outputs").iterdir()) == ["parts", "ranks"]
    ranks, parts = (
        torch.load(tmp_path / "outputs" / name / "checkpoints" / "last.pt", weights_only=True)["model"]
        for name in ("ranks", "parts")
    )
    config = compose("train", settings)
    seed_weights(config["seed"])
    start = build_model(**config["model"], image_size=(16, 16), objective=Objective()).state_dict()
    # Statistics that are kept besides the weights follow process 0, or all shards in turn.
    kept = ("running_mean", "running_var", "num_batches_tracked", "w_avg", "path_length_mean")
    trained = [key for key in parts if not key.endswith(kept) and not torch.equal(parts[key], start[key])]
    assert len(trained) >= 20
    for key in trained:
        # Adam divides by the gradient's size, so that a gradient near zero turns rounding into a step: compare norms.
        error, moved = (ranks[key] - parts[key]).norm(), (parts[key] - start[key]).norm()
        assert error <= 0.02 * moved, f"{key}: {error / moved}"


def test_batch_that_cannot_be_dealt_evenly_is_refused() -> None:
    class Ten:
        def __len__(self) -> int:
            return 10

    with pytest.raises(UserError, match=r"trainer\.batch_size=5: must be a multiple of 2"):
        Loader(Ten(), 5, 0, num_shards=2)
