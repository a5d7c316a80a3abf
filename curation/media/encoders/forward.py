"""Forward passes in batches of one shape, and prefetching of their inputs."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from curation.algorithms.arrays.vectors import unit_vectors
from curation.errors import RecipeError
from curation.media.encoders.encoder import Encoder

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


class BatchEncoder:
    """Collects the inputs of rows in batches, and runs the model on each full batch.

    All batches have the same shape, so that a vector does not depend on the other rows of its batch:
    fragments of any size give the same bits. The result of a batch is read only after the next batch
    has started, so that a GPU computes while the next batch is prepared.

    Args:
        encoder: the model.
        rows: number of rows.
        batch_size: rows per forward pass.
        device: of the model.
    """

    def __init__(self, encoder: Encoder, rows: int, batch_size: int, device: str) -> None:
        self.vectors = np.zeros((rows, encoder.dim), dtype=np.float16)
        self.valid = np.zeros(rows, dtype=bool)
        self._encoder, self._batch_size, self._device = encoder, batch_size, torch.device(device)
        # Rows of one call of the model: fewer than a batch where that is faster, or after it ran out of
        # memory.
        self._rows_per_call = rows_per_call(encoder, batch_size, self._device)
        self._rows: list[int] = []
        self._inputs = self._new_inputs()
        self._running: tuple[list[int], torch.Tensor] | None = None

    def add(self, row: int, inputs: torch.Tensor) -> None:
        """Add the preprocessed input of a row.

        Raises:
            RecipeError: it is not like the encoder's blank input: torch would repeat or round it.
        """
        blank = self._encoder.blank
        if (inputs.shape, inputs.dtype) != (blank.shape, blank.dtype):
            raise self._error("preprocess", inputs, f"{_form(blank)}, as its blank input")
        self._inputs[len(self._rows)] = inputs
        self._rows.append(row)
        if len(self._rows) == self._batch_size:
            self._run_batch()

    def finish(self) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]]:
        """Return unit vectors (rows, dim), and which of them are valid (rows,); the others are zero.

        Raises:
            RecipeError: the model does not return features (n, dim): numpy would repeat (n, 1).
        """
        if self._rows:
            self._inputs[len(self._rows) :] = self._encoder.blank
            self._run_batch()
        self._store(self._running)
        self._running = None
        return self.vectors, self.valid

    def _new_inputs(self) -> torch.Tensor:
        blank = self._encoder.blank
        pinned = self._device.type == "cuda"
        return torch.empty((self._batch_size, *blank.shape), dtype=blank.dtype, pin_memory=pinned)

    def _run_batch(self) -> None:
        calls = -(-len(self._rows) // self._rows_per_call)
        features = self._features(self._inputs[: calls * self._rows_per_call])
        previous, self._running = self._running, (self._rows, features)
        # The copy to a GPU may still read the old inputs.
        self._rows, self._inputs = [], self._new_inputs()
        self._store(previous)

    def _features(self, inputs: torch.Tensor) -> torch.Tensor:
        while True:
            try:
                with torch.inference_mode():
                    parts = [
                        self._encoder.model(part.to(self._device, non_blocking=True))
                        for part in torch.split(inputs, self._rows_per_call)
                    ]
                return torch.cat(parts)
            except torch.OutOfMemoryError:
                if self._rows_per_call == 1:
                    raise
                self._rows_per_call = -(-self._rows_per_call // 2)
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()
                logger.warning(
                    "embed: out of memory on %s; continuing with %d rows per call. Set "
                    "embed.batch_size to this number to avoid the warning.",
                    self._device,
                    self._rows_per_call,
                )

    def _store(self, batch: tuple[list[int], torch.Tensor] | None) -> None:
        """Wait for the features of a batch, and store them as unit vectors."""
        if batch is None:
            return
        rows, tensor = batch
        if tensor.shape[1:] != self.vectors.shape[1:]:
            raise self._error("model", tensor, f"features (n, {self.vectors.shape[1]})")
        features = tensor.float().cpu().numpy()[: len(rows)]
        self.vectors[rows], self.valid[rows] = unit_vectors(features)

    def _error(self, part: str, result: torch.Tensor, wanted: str) -> RecipeError:
        name = self._encoder.identity.get("architecture", "an encoder")
        return RecipeError(
            f"The {part} of {name} returns {_form(result)}",
            fix=f"Let `load` of its family return one that gives {wanted}",
        )


def _form(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def rows_per_call(encoder: Encoder, batch_size: int, device: torch.device) -> int:
    """Return how many rows of a batch the model gets at a time; every call gets as many."""
    rows = encoder.cpu_rows if device.type == "cpu" else None
    return rows if rows and batch_size % rows == 0 else batch_size


def prefetch(
    pool: Executor | None, function: Callable[[T], R], items: Iterable[T], depth: int
) -> Iterator[R]:
    """Yield `function(item)` for each item in order, computed in advance.

    Args:
        pool: computes the results; without one each is computed when it is needed.
        function: called with each item.
        items: read only as far as results are computed.
        depth: largest number of results that are computed in advance.
    """
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
    encoder: Encoder, items: Sequence[Any], batch_size: int, device: str
) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]]:
    """Return unit vectors (n, dim), and which of them are valid (n,); the others are zero.

    Args:
        encoder: the model.
        items: RGB images (of Pillow, or arrays), or captions; None for a missing one.
        batch_size: rows per forward pass.
        device: of the model.
    """
    batches = BatchEncoder(encoder, len(items), batch_size, device)
    for row, item in enumerate(items):
        if item is not None:
            batches.add(row, encoder.preprocess(item))
    return batches.finish()
