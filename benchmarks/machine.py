"""The processor and the libraries on which a benchmark runs."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FLAGS = ("avx512_bf16", "amx_bf16", "avx512f", "avx2")


def conditions() -> str:
    """Return the processor, its number of cores and the versions of libraries, in one line."""
    model, flags = platform.machine(), ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
        cpu_flags = next((line for line in lines if line.startswith("flags")), "").split()
        flags = " ".join(flag for flag in FLAGS if flag in cpu_flags)
    libraries = " · ".join(
        filter(None, map(_version, ("faiss-cpu", "faiss-gpu", "torch", "numpy")))
    )
    return f"{model}, {os.cpu_count()} cores ({flags}) · {libraries}"


def _version(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return ""
