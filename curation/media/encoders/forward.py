"""Forward passes of one shape, and what is prepared for them meanwhile."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from curation.algorithms.arrays.vectors import comparable
from curation.media.encoders.encoder import Encoder

if TYPE_CHECKING:
    from curation.media.encoders.encoder import Encoder

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


class Passes:
    """Gathers prepared rows to full batches and sends each through the model.

    Every pass has the same shape, so that a vector does not depend on what happens to share its batch:
    fragments of any size give the same bits. A pass is not waited for until the next has begun, so that
    a GPU computes while the next batch is prepared.
    """

    def __init__(self, encoder: Encoder, rows: int, batch_size: int, device: str) -> None:
        self.vectors = np.zeros((rows, encoder.dim), dtype=np.float16)
        self.valid = np.zeros(rows, dtype=bool)
        self._encoder, self._size, self._device = encoder, batch_size, torch.device(device)
        self._at_once = batch_size
        self._rows: list[int] = []
        self._inputs = self._room()
        self._begun: tuple[list[int], torch.Tensor] | None = None

    def add(self, row: int, prepared: torch.Tensor) -> None:
        """Take the prepared tensor of a row."""
        self._inputs[len(self._rows)] = prepared
        self._rows.append(row)
        if len(self._rows) == self._size:
            self._pass()

    def finish(self) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]]:
        """Return unit vectors (rows, dim) and which of them are valid; the others are zero."""
        if self._rows:
            self._inputs[len(self._rows) :] = self._encoder.blank
            self._pass()
        self._settle()
        return self.vectors, self.valid

    def _room(self) -> torch.Tensor:
        blank = self._encoder.blank
        pinned = self._device.type == "cuda"
        return torch.empty((self._size, *blank.shape), dtype=blank.dtype, pin_memory=pinned)

    def _pass(self) -> None:
        features = self._features(self._inputs)
        before, self._begun = self._begun, (self._rows, features)
        # The copy to a GPU may still be reading the room that was filled.
        self._rows, self._inputs = [], self._room()
        self._settled(before)

    def _features(self, inputs: torch.Tensor) -> torch.Tensor:
        while True:
            try:
                with torch.inference_mode():
                    parts = [
                        self._encoder.model(part.to(self._device, non_blocking=True))
                        for part in torch.split(inputs, self._at_once)
                    ]
                return torch.cat(parts)
            except torch.OutOfMemoryError:
                if self._at_once == 1:
                    raise
                self._at_once = -(-self._at_once // 2)
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()
                logger.warning(
                    "embed: out of memory on %s; going on with %d rows at once. Lower "
                    "embed.batch_size to start with that.",
                    self._device,
                    self._at_once,
                )

    def _settle(self) -> None:
        self._settled(self._begun)
        self._begun = None

    def _settled(self, begun: tuple[list[int], torch.Tensor] | None) -> None:
        if begun is None:
            return
        rows, tensor = begun
        features = tensor.float().cpu().numpy()[: len(rows)]
        # What overflows or is no number is a row without a vector, not a warning.
        with np.errstate(over="ignore", invalid="ignore"):
            lengths = np.linalg.norm(features, axis=1, keepdims=True)
            finite = np.isfinite(features).all(axis=1, keepdims=True) & (lengths > 0)
            self.vectors[rows] = np.where(finite, features / np.where(lengths > 0, lengths, 1), 0)
        # A length beyond float32 leaves nothing but zeros.
        self.valid[rows] = comparable(self.vectors[rows])


def ahead(
    pool: Executor | None, function: Callable[[T], R], items: Iterable[T], depth: int
) -> Iterator[R]:
    """Yield `function(i) for i in items` in order, at most `depth` of them computed before they are
    wanted; without a pool each when it is wanted."""
    if pool is None:
        yield from map(function, items)
        return
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def encode(
    encoder: Encoder, given: Sequence[Any], batch_size: int, device: str
) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]]:
    """Return unit vectors (n, dim) and which of them are valid; the others are zero.

    Args:
        encoder: the model.
        given: RGB pictures (of Pillow, or arrays), or captions, None where there is none.
        batch_size: rows of a forward pass.
        device: where the model is.
    """

    passes = Passes(encoder, len(given), batch_size, device)
    for number, one in enumerate(given):
        if one is not None:
            passes.add(number, encoder.preprocess(one))
    return passes.finish()
