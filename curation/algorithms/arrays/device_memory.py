"""How much of a product a device holds at once, and arrays that are sent to it ahead of their use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

SHARE_OF_FREE_MEMORY = 0.25
"""Share of a GPU's free memory that one tile may take; another share holds what is multiplied."""
BYTES_PER_SCORE = 12
"""A score in bfloat16 and, where an offset is subtracted, twice in float32."""
BYTES_PER_VALUE = 10
"""A value of a vector in float16, in bfloat16 and as a column, and in float32 while it is rounded."""
GROUPS_PER_TILE, MEMBERS_PER_GROUP = 128, 32
"""A tile has this many groups of columns at least, and groups of at most about so many columns."""


class TileSizes(NamedTuple):
    """The size of one tile of a product: queries times columns."""

    queries: int
    columns: int


CPU_TILE = TileSizes(1024, 4096)
"""Its scores take 8 MB and stay in the cache."""
LARGEST_TILE = TileSizes(2**14, 2**15)
"""On a GPU. A tile takes milliseconds, beside which starting its dozen of kernels is little."""
SMALLEST_TILE = TileSizes(2**8, 2**10)


def tile_sizes(device: torch.device, dim: int) -> TileSizes:
    """Return the size of tiles on a device.

    Args:
        device: a CPU, or a GPU whose free memory decides.
        dim: dimension of the vectors.
    """
    if device.type == "cpu":
        return CPU_TILE
    return tile_within(SHARE_OF_FREE_MEMORY * free_bytes(device), dim)


def tile_within(limit: float, dim: int) -> TileSizes:
    """Return the largest tile that takes at most `limit` bytes, but no less than SMALLEST_TILE.

    Args:
        limit: bytes.
        dim: dimension of the vectors.
    """
    tile = LARGEST_TILE
    while tile_bytes(tile, dim) > limit and tile != SMALLEST_TILE:
        if tile.columns > max(tile.queries, SMALLEST_TILE.columns):
            tile = tile._replace(columns=tile.columns // 2)
        elif tile.queries > SMALLEST_TILE.queries:
            tile = tile._replace(queries=tile.queries // 2)
        else:
            tile = tile._replace(columns=tile.columns // 2)
    return tile


def group_count(columns: int) -> int:
    """Return how many groups a tile of so many columns has."""
    return max(min(GROUPS_PER_TILE, columns), columns // MEMBERS_PER_GROUP)


def tile_bytes(tile: TileSizes, dim: int) -> int:
    """Return how many bytes a tile takes: its scores, and the vectors that are multiplied."""
    scores = tile.queries * tile.columns * BYTES_PER_SCORE
    return scores + (tile.queries + tile.columns) * dim * BYTES_PER_VALUE


def free_bytes(device: torch.device) -> float:
    """Return how many bytes of a GPU's memory are free, with what torch keeps for reuse."""
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return float(free + kept)


def fits(size: float, device: torch.device) -> bool:
    """Whether an array of so many bytes takes at most its share of a GPU's memory; true for CPUs."""
    return device.type == "cpu" or size <= SHARE_OF_FREE_MEMORY * free_bytes(device)


def send_ahead(
    arrays: Iterable[npt.NDArray[np.generic]], device: torch.device | str
) -> Iterator[Tensor]:
    """Yield arrays on a device. While one is used, the next one is read and on its way.

    A GPU gets them from two pinned buffers on a stream of its own, so that copies and kernels run side
    by side. On a CPU, an array whose memory is contiguous is not copied.

    Args:
        arrays: read at most one ahead of what was yielded.
        device: `cpu` or `cuda[:n]`.
    """
    copies = _Copies(torch.device(device))
    waiting = None
    for array in arrays:
        sent = copies.send(np.ascontiguousarray(array))
        if waiting is not None:
            yield copies.receive(waiting)
        waiting = sent
    if waiting is not None:
        yield copies.receive(waiting)


class _Copies:
    """Copies to one device. On a CPU nothing is copied."""

    def __init__(self, device: torch.device) -> None:
        cuda: Any = torch.cuda  # its classes have no types
        self.device, self.new_event = device, cuda.Event
        self.stream: Any = cuda.Stream(device) if device.type == "cuda" else None
        self.buffers: list[Tensor | None] = [None, None]
        self.copied: list[Any] = [None, None]
        self.turn = 0

    def send(self, array: npt.NDArray[np.generic]) -> tuple[Tensor, Any]:
        """Begin to copy an array; return the array on the device, and the event of its arrival."""
        host = torch.from_numpy(array)
        if self.stream is None:
            return host.to(self.device), None
        self.turn = 1 - self.turn
        if (event := self.copied[self.turn]) is not None:
            # The copy before last may still read this buffer.
            event.synchronize()
        pinned = self._buffer(host)
        pinned.copy_(host)
        with torch.cuda.stream(self.stream):
            sent = pinned.to(self.device, non_blocking=True)
            event = self.new_event()
            event.record(self.stream)
        self.copied[self.turn] = event
        return sent, event

    def _buffer(self, host: Tensor) -> Tensor:
        """Return pinned memory of the shape of an array, which the next but one array uses again."""
        size = host.numel() * host.element_size()
        buffer = self.buffers[self.turn]
        if buffer is None or buffer.numel() < size:
            buffer = torch.empty(size, dtype=torch.uint8, pin_memory=True)
            self.buffers[self.turn] = buffer
        return buffer[:size].view(host.dtype).view(host.shape)

    def receive(self, waiting: tuple[Tensor, Any]) -> Tensor:
        """Return an array that was sent; kernels started from now on wait for it."""
        sent, event = waiting
        if event is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(event)
            # Its memory is not given to another array before the kernels of this stream are done.
            sent.record_stream(current)
        return sent
