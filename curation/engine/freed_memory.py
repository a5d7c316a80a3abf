"""Gives the memory that was freed back to the system."""

from __future__ import annotations

import ctypes

import pyarrow as pa

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

_MALLOC_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""The function of glibc; None with another C library."""


def return_freed_memory() -> None:
    """Give the memory that was freed back to the system, as far as the allocators can.

    They keep it for later use, in pieces of many sizes. A worker that computes one unit after another,
    each with arrays of other sizes, would otherwise grow with every unit.
    """
    pa.default_memory_pool().release_unused()
    if _MALLOC_TRIM is not None:
        _MALLOC_TRIM(0)
