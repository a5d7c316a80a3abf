"""Memory that a worker has freed goes back to the system, also between pieces that are still used."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PIECES = """
from pathlib import Path
from curation.engine.freed_memory import return_freed_memory

def resident_mib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) >> 10

pieces = [bytearray(b"x" * 100_000) for _ in range(3_000)]
pieces = pieces[::100]
before = resident_mib()
return_freed_memory()
print(before - resident_mib())
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="another C library has no malloc_trim"
)
def test_freed_memory_goes_back_to_the_system() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PIECES], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(done.stdout) > 200
