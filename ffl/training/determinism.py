"""The same numbers on another machine (``trainer.deterministic``), as far as the libraries below torch let it be.

Sums of floats depend on their order. A library picks its order by the processor: how many numbers an instruction takes,
and in MKL also who made it. So does the number of threads among which a sum is dealt out. What differs in the last bit
of a step differs in the first digits of a GAN's images some thousand steps later.

Libraries read the variables below when they are loaded, so that a program calls ``fix_instructions`` before it imports
torch. Nothing here imports torch before it is needed.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator

from ffl.errors import UserError

# AVX2 is what all x86 processors since about 2015 have in common. MKL has no such choice: on a processor that is not
# Intel's it disregards every value but COMPATIBLE, whose products take several times as long.
INSTRUCTIONS = {"MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
# cuBLAS reuses memory in the same way in each run only with a workspace of fixed size.
VARIABLES = {**INSTRUCTIONS, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def fix_instructions(words: Iterable[str]) -> None:
    """Set the variables where a command line asks for ``trainer.deterministic=true``; call it before torch is imported.

    Args:
        words: of the command line. One value of a sweep is enough: all of its runs share the process.
    """
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        if key == "trainer.deterministic" and "true" in value.lower():
            os.environ.update(VARIABLES)


def check_instructions(device_type: str, precision: str) -> None:
    """See that the libraries were loaded with the variables.

    Raises:
        UserError: if they were not, or a model on the CPU has a processor without AVX2 or is to compute in 16 bits.
    """
    import torch

    if device_type == "cpu" and precision != "fp32":
        raise UserError(
            f"trainer.deterministic=true: AVX2 has no instructions for {precision}; set trainer.precision=fp32"
        )

    missing = [f"{key}={value}" for key, value in VARIABLES.items() if os.environ.get(key) != value]
    instructions = torch.backends.cpu.get_cpu_capability()
    if missing or (device_type == "cpu" and instructions != "AVX2"):
        # The variables may be there and have come too late; torch says what it did choose.
        reason = f"{missing[0]} is not set" if missing else f"torch runs {instructions} and not AVX2"
        needed = " ".join(f"{key}={value}" for key, value in VARIABLES.items())
        raise UserError(
            f"trainer.deterministic=true: {reason}; give the key on the command line of train.py or "
            f"scripts/reproduce.py, or start the program with {needed}, on an x86 processor with AVX2"
        )


@contextlib.contextmanager
def deterministic_algorithms(only: bool) -> Iterator[None]:
    """Let torch use no operation whose result changes from run to run; with ``only`` false this does nothing.

    Raises:
        UserError: for an operation that torch has no such way for. There are some on a GPU.
    """
    import torch

    if not only:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        said = str(error).split(". ")[0]
        raise UserError(f"trainer.deterministic=true: {said}; train on a CPU, or set it to false") from None
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
