"""Where a number comes from: code version, software and hardware."""

import contextlib
import hashlib
import json
import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import torch
import torchvision


def _git(*arguments: str) -> str | None:
    """Output of a git command on the checkout that this file is in; None outside one, or without git."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@cache
def code_version() -> dict[str, Any]:
    """``commit`` and whether the tree had uncommitted changes (``dirty``); None outside a git checkout."""
    # Results are made by runs and change none, so that publishing some does not make the code count as changed.
    commit = _git("rev-parse", "HEAD")
    return {
        "commit": commit,
        "dirty": bool(_git("status", "--porcelain", "--", ":/", ":!/results")) if commit else None,
    }


def environment() -> dict[str, Any]:
    """Versions and hardware that numbers depend on."""
    # On Linux platform.processor() is often empty or says "x86_64", which tells nothing of rounding and speed.
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else platform.machine()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": numpy.__version__,
        "platform": platform.platform(),
        "cpu": processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def content_hash(value: Any) -> str:
    """SHA-256 of a JSON-able value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
