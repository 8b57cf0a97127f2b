"""Precision, memory layout, clipping and compilation change speed, not what is learnt."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import NumberedImages, flat, in_double, small_batch, small_model, step_gradients
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ffl.errors import UserError
from ffl.training.compiling import compile_networks
from ffl.training.config import TrainerConfig
from ffl.training.loader import Loader
from ffl.training.model import Model
from ffl.training.objective import Objective
from ffl.training.precision import DTYPES, Precision, allow_tf32, at_least_float32, lacks_bfloat16
from ffl.training.program import compose
from ffl.training.step import TrainingStep
from ffl.training.trainer import Trainer, to_device
from ffl.training.words import CONFIG_DIR
from models import MODELS
from run_config import check

CPU = torch.device("cpu")


def _train(model: Model, channels_last: bool = False) -> Model:
    """Two steps of training, in place."""
    model.train()
    if channels_last:
        model.to(memory_format=torch.channels_last)
    training_step = TrainingStep(model, seed=0)
    for step in range(2):
        training_step.run(step, {0: to_device(small_batch(), CPU, channels_last)})
    return model


def _distance(one: Model, other: Model, start: Model) -> float:
    """How far two trained models are from each other, relative to how far they came."""

    def flat(model: Model) -> torch.Tensor:
        return torch.cat([parameter.detach().float().flatten() for parameter in model.parameters()])

    return ((flat(one) - flat(other)).norm() / (flat(other) - flat(start)).norm()).item()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_channels_last_is_the_same_training(name: str) -> None:
    ours = _train(small_model(name), channels_last=True)
    assert _distance(ours, _train(small_model(name)), small_model(name)) < 0.05


class _Round(torch.autograd.Function):
    """Rounds a tensor to 16 bits on the way forward, and its gradient on the way back."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        ctx.dtype = dtype
        return x.to(dtype).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient.to(ctx.dtype).to(gradient.dtype), None


class _RoundedProducts(TorchFunctionMode):
    """What 16 bits do to a network in float64: operands and results of its matrix products are rounded."""

    PRODUCTS = (functional.linear, functional.conv2d, functional.conv_transpose2d)

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in self.PRODUCTS:
            return func(*args, **(kwargs or {}))
        rounded = [self._round(item) for item in args]
        return self._round(func(*rounded, **{key: self._round(item) for key, item in (kwargs or {}).items()}))

    def _round(self, item: Any) -> Any:
        return _Round.apply(item, self.dtype) if isinstance(item, torch.Tensor) else item


def _error(ours: dict[str, torch.Tensor], exact: dict[str, torch.Tensor]) -> float:
    return ((flat(ours) - flat(exact)).norm() / flat(exact).norm()).item()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", ["vae", "pix2pix", "spade"])
def test_gradients_in_mixed_precision_are_off_by_the_rounding_of_16_bits(name: str, precision: str) -> None:
    batch = {0: small_batch(64)}
    exact = step_gradients(small_model(name, 64), batch)
    double = {0: in_double(small_batch(64))}
    with _RoundedProducts(DTYPES[precision]):
        rounded = step_gradients(small_model(name, 64).double(), double)
    predicted = [
        _error(*pair) for pair in zip(rounded, step_gradients(small_model(name, 64).double(), double), strict=True)
    ]
    ours: list[Any] = [None] * len(exact)
    # The largest of these scales at which a gradient does not overflow, as training finds it. Without a scale those of
    # SPADE's discriminator are below what float16 has all its bits for, and how much is lost depends on the processor.
    for scale in (2.0**16, 2.0**12, 2.0**8, 2.0**4):
        choice = Precision(precision, CPU, [phase.optimizer for phase in small_model(name, 64).phases()])
        choice.scalers = {key: torch.amp.GradScaler("cpu", init_scale=scale) for key in choice.scalers}
        found = step_gradients(small_model(name, 64), batch, choice)
        ours = [
            new if old is None and flat(new).isfinite().all() else old for old, new in zip(ours, found, strict=True)
        ]
        if all(ours):
            break
    for gradients, reference, expected in zip(ours, exact, predicted, strict=True):
        assert expected < 0.25  # so that the gradient is one, and not all rounding
        assert expected / 4 < _error(gradients, reference) < 2 * expected


def test_losses_and_the_generators_output_are_float32() -> None:
    seen: dict[str, torch.dtype] = {}

    class Spy(Objective):
        def forward(self, fake: torch.Tensor, real: torch.Tensor, losses: dict) -> dict:
            seen.update(fake=fake.dtype, real=real.dtype)
            return super().forward(fake, real, losses)

    model = small_model("vae")
    model.objective = Spy(ffl=True)
    inside: list[torch.dtype] = []
    model.decoder.linear.register_forward_hook(lambda module, inputs, output: inside.append(output.dtype))
    terms, _ = TrainingStep(model, seed=0, precision="bf16").run(0, {0: small_batch()})
    assert inside == [torch.bfloat16]
    assert seen == {"fake": torch.float32, "real": torch.float32}
    assert {term.dtype for term in terms.values()} == {torch.float32}
    double = torch.ones(2, dtype=torch.float64)
    assert at_least_float32({"a": double})["a"] is double


class _Line(nn.Module):
    """y = w · x, whose gradients can be written down."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))


def _step(precision: Precision, line: _Line, optimizer: torch.optim.Optimizer, x: torch.Tensor) -> None:
    optimizer.zero_grad()
    precision.scale("line", (line.weight * x).sum()).backward()
    precision.step("line", optimizer, line.parameters())


@pytest.mark.parametrize("fused", [False, True])
def test_a_scaled_step_equals_an_unscaled_one_and_an_overflow_is_left_out(fused: bool) -> None:
    lines, x = [_Line(), _Line()], torch.tensor([0.5, 1e-3, -2.0])
    precisions = [Precision("fp16", CPU, ["line"]), Precision()]
    optimizers = [torch.optim.Adam(line.parameters(), lr=0.1, fused=fused) for line in lines]
    for _ in range(3):
        for line, precision, optimizer in zip(lines, precisions, optimizers, strict=True):
            _step(precision, line, optimizer, x)
        assert torch.equal(lines[0].weight, lines[1].weight)  # the scale is a power of two: nothing is rounded
    before, scale = lines[0].weight.clone(), precisions[0].scalers["line"].get_scale()
    _step(precisions[0], lines[0], optimizers[0], torch.tensor([torch.inf, 1.0, 1.0]))
    assert torch.equal(lines[0].weight, before)
    assert precisions[0].scalers["line"].get_scale() == scale / 2
    for line, precision, optimizer in zip(lines, precisions, optimizers, strict=True):
        _step(precision, line, optimizer, x)
    assert torch.equal(lines[0].weight, lines[1].weight)  # the step that was left out left no trace in Adam
    again = Precision("fp16", CPU, ["line"])
    again.load_state(precisions[0].state())
    assert again.state() == precisions[0].state()
    assert again.scalers["line"].get_scale() == scale / 2


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_clipping_limits_the_norm_of_the_true_gradient(precision: str) -> None:
    line = _Line()
    optimizer = torch.optim.SGD(line.parameters(), lr=1.0)
    before = line.weight.clone()
    _step(Precision(precision, CPU, ["line"], clip_grad_norm=0.5), line, optimizer, torch.tensor([3.0, 0.0, 4.0]))
    assert torch.allclose(before - line.weight, torch.tensor([0.3, 0.0, 0.4]), atol=1e-6)
    _step(Precision(precision, CPU, ["line"], clip_grad_norm=9.0), line, optimizer, torch.tensor([0.0, 1.0, 0.0]))
    assert torch.allclose(before - line.weight, torch.tensor([0.3, 1.0, 0.4]), atol=1e-6)


def test_a_processor_without_bfloat16_is_told_that_it_will_be_slower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    flags = {"avx512f avx512_bf16": False, "avx2 amx_bf16 amx_tile": False, "fphp bf16": False, "avx2 avx512f": True}
    for number, (words, lacks) in enumerate(flags.items()):
        (tmp_path / str(number)).write_text(f"model name\t: A\nflags\t\t: fpu {words} sse4_2\n")
        assert lacks_bfloat16(str(tmp_path / str(number))) is lacks
    assert not lacks_bfloat16(str(tmp_path / "none"))

    monkeypatch.setattr("ffl.training.trainer.lacks_bfloat16", lambda: True)
    said = {}
    for precision in ("bf16", "fp32"):
        config = TrainerConfig(epochs=1, batch_size=4, accelerator="cpu", precision=precision)
        Trainer(small_model("ae"), Loader(NumberedImages(4), 4, 0), None, config, seed=0)
        said[precision] = [record.getMessage() for record in caplog.records]
        caplog.clear()
    assert said["fp32"] == []
    assert len(said["bf16"]) == 1
    assert "no instructions for it (AVX512-BF16, AMX), so that it will be slower than fp32" in said["bf16"][0]


def test_tf32_is_off_unless_asked_for() -> None:
    for allowed in (True, False):
        allow_tf32(allowed)
        assert torch.backends.cuda.matmul.allow_tf32 is allowed
        assert torch.backends.cudnn.allow_tf32 is allowed


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=stylegan2", "trainer.precision=fp16"], "stylegan2 has its own, model.num_low_precision"),
        (["model=stylegan2", "trainer.compile=true"], "hold gradients, which compiled networks cannot be"),
    ],
)
def test_what_a_model_cannot_do_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(compose("train", overrides))


@pytest.mark.parametrize("preset", sorted(path.stem for path in (CONFIG_DIR / "trainer").glob("*.yaml")))
def test_presets_compose_for_everysmall_model(preset: str) -> None:
    for model in ("ae", "stylegan2", "spade"):
        config = compose("train", [f"model={model}", f"trainer={preset}", "debug=smoke"])
        check(config)
        assert config["trainer"]["batch_size"] == 8  # a preset says how to compute, never what
    wanted = {"cpu": "fp32", "cpu_bf16": "bf16", "default": "fp32", "slurm": "fp32", "gpu": "bf16", "v100x8": "fp16"}
    assert compose("train", [f"trainer={preset}"])["trainer"]["precision"] == wanted[preset]
    assert compose("train", [f"trainer={preset}", "model=stylegan2"])["trainer"]["precision"] == "fp32"


@pytest.mark.slow
def test_compiled_networks_learn_the_same() -> None:
    plain, compiled, start = small_model("ae"), small_model("ae"), small_model("ae")
    keys = list(compiled.state_dict())
    compile_networks(compiled, CPU)
    assert list(_train(compiled).state_dict()) == keys
    assert _distance(compiled, _train(plain), start) < 0.05
    out = compiled.eval().generate(small_batch(), "reconstruction", 0)
    assert np.allclose(out.numpy(), plain.eval().generate(small_batch(), "reconstruction", 0).numpy(), atol=0.02)


@pytest.mark.filterwarnings("ignore:dynamo_pgo")
def test_without_a_compiler_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", ("/no/compiler",))
    monkeypatch.setattr(inductor, "force_disable_caches", True)
    torch.compiler.reset()
    with pytest.raises(UserError, match=r"trainer\.compile=true: torch cannot compile for this cpu") as error:
        compile_networks(small_model("ae"), CPU)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("install a C++ compiler, or set trainer.compile=false")
