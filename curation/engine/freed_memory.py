"""Gives the memory that was freed back to the system."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import pyarrow as pa

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


def return_freed_memory() -> None:
    """Give the memory that was freed back to the system, as far as the allocators can.

    They keep it for later use, in pieces of many sizes. A worker that computes one unit after another,
    each with arrays of other sizes, would otherwise grow with every unit.
    """
    pa.default_memory_pool().release_unused()
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    """Return the function of glibc; None with another C library."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
