"""Which type a screen of products has on this machine: the one that is faster here.

Both types give the same bits, because what they propose is decided in float64. How much faster products
in bfloat16 are depends on the processor and on what else it does, from half as fast to five times as
fast as float32. So a small scan is measured once in each process that needs to know.
"""

from __future__ import annotations

import time
from functools import lru_cache

import torch

from curation.algorithms.arrays.device_memory import CPU_TILE, group_count
from curation.algorithms.arrays.screened_products import RoundedVectors, Tile, scan

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

SAMPLE_QUERIES, SAMPLE_DIM = CPU_TILE.queries, 256
"""Size of the scan that is measured, with the columns of one tile: 2 billion operations."""
ROUNDS = 3
"""Scans of each type, in turn; the fastest of each counts."""


def is_faster(device: str = "cpu") -> bool:
    """Whether screening in bfloat16 is faster than in float32 on a device."""
    return screen_type(device) == torch.bfloat16


def screen_type(device: str) -> torch.dtype:
    """Return the type of a screen on a device: bfloat16 or float32.

    GPUs screen in bfloat16. On a CPU with bfloat16 instructions the first call measures both, which
    takes a fraction of a second; other CPUs screen in float32.
    """
    if torch.device(device).type != "cpu":
        return torch.bfloat16
    if not has_bfloat16_instructions():
        return torch.float32
    seconds = measured_seconds()
    return min(seconds, key=lambda kind: seconds[kind])


def has_bfloat16_instructions() -> bool:
    """Whether this processor multiplies matrices in bfloat16."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@lru_cache(maxsize=1)
def measured_seconds() -> dict[torch.dtype, float]:
    """Return the seconds of a small scan on this CPU by the type of its screen."""
    generator = torch.Generator().manual_seed(0)
    queries, columns = (
        torch.nn.functional.normalize(torch.randn(rows, SAMPLE_DIM, generator=generator)).half()
        for rows in (SAMPLE_QUERIES, CPU_TILE.columns)
    )
    seconds = dict.fromkeys((torch.bfloat16, torch.float32), float("inf"))
    sides = {kind: _Scan(queries, columns, kind) for kind in seconds}
    for _ in range(ROUNDS):
        for kind, side in sides.items():
            seconds[kind] = min(seconds[kind], side.seconds())
    return seconds


class _Scan:
    """A scan for the best of some columns, in one type."""

    def __init__(self, queries: torch.Tensor, columns: torch.Tensor, kind: torch.dtype) -> None:
        self.queries = RoundedVectors.of(queries, kind)
        self.tile = Tile.of(columns, kind, group_count(len(columns)))
        # The first product compiles code for its shape.
        scan(self.queries, [self.tile], 1)

    def seconds(self) -> float:
        started = time.perf_counter()
        scan(self.queries, [self.tile], 1)
        return time.perf_counter() - started
