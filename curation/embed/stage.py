"""embed: a vector an encoder for every fetched picture, all encoders over one decode."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from curation.fragment import Fragment
from curation.params import EmbedParams
from curation.units import Rows
from curation.vectors import comparable, vector_array

if TYPE_CHECKING:
    from curation.embed.encoder import Encoder

COLUMNS = ["pair_id", "image_id", "status", "image"]


def embed(images: Fragment, *, params: EmbedParams, device: str) -> Rows:
    """Embed each picture with every encoder.

    Args:
        images: a fragment of the table `images`.
        params: the encoders by name.
        device: `cpu` or `cuda[:n]`.

    Yields:
        (table name, batch of that encoder's `embeddings`), aligned with `images`.

    Returns:
        For each table the encoder's identity, and what its vectors are.
    """
    # torch takes seconds to import, and a run with nothing to embed does without.
    from curation.embed.encoder import load_encoder

    encoders = {n: load_encoder(s, device) for n, s in params.encoders.items()}
    for batch in images.batches(COLUMNS, rows=params.batch_size):
        pictures = [
            decode(image) if status == "ok" else None
            for status, image in zip(
                batch.column("status").to_pylist(), batch.column("image").to_pylist(), strict=True
            )
        ]
        for name, encoder in encoders.items():
            vectors, valid = encode(encoder, pictures, params.batch_size, device)
            yield f"embeddings.{name}", _rows(batch, pictures, vectors, valid)
    return {f"embeddings.{n}": {"encoder": e.identity, **_STORED} for n, e in encoders.items()}


_STORED = {"dtype": "<f2", "normalized": "L2"}


def decode(image: bytes) -> Image.Image | None:
    """Return a stored image as RGB, or None where it cannot be decoded."""
    try:
        with Image.open(io.BytesIO(image)) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def encode(
    encoder: Encoder, pictures: list[Image.Image | None], batch_size: int, device: str
) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]]:
    """Return unit vectors (n, dim) and which of them are valid; the others are zero.

    Every forward pass has the same shape, so that a vector does not depend on which pictures happen
    to share its batch: fragments of any size give the same bits.
    """
    import torch

    vectors = np.zeros((len(pictures), encoder.dim), dtype=np.float16)
    valid = np.zeros(len(pictures), dtype=bool)
    for rows in _blocks([i for i, p in enumerate(pictures) if p is not None], batch_size):
        inputs = torch.zeros(batch_size, 3, encoder.input_size, encoder.input_size)
        for place, row in enumerate(rows):
            inputs[place] = encoder.preprocess(pictures[row])  # type: ignore[arg-type]
        with torch.inference_mode():
            features = encoder.model(inputs.to(device)).float().cpu().numpy()[: len(rows)]
        # What overflows or is no number is a row without a vector, not a warning.
        with np.errstate(over="ignore", invalid="ignore"):
            lengths = np.linalg.norm(features, axis=1, keepdims=True)
            finite = np.isfinite(features).all(axis=1, keepdims=True) & (lengths > 0)
            vectors[rows] = np.where(finite, features / np.where(lengths > 0, lengths, 1), 0)
        # A length beyond float32 leaves nothing but zeros.
        valid[rows] = comparable(vectors[rows])
    return vectors, valid


def _blocks(items: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _rows(
    batch: pa.RecordBatch,
    pictures: list[Image.Image | None],
    vectors: npt.NDArray[np.float16],
    valid: npt.NDArray[np.bool_],
) -> pa.RecordBatch:
    def reason(status: str, picture: Any, has_vector: bool) -> str | None:
        if status != "ok":
            return "no_pixels"
        if picture is None:
            return "undecodable"
        return None if has_vector else "not_finite"

    reasons = [
        reason(s, p, bool(v))
        for s, p, v in zip(batch.column("status").to_pylist(), pictures, valid, strict=True)
    ]
    return pa.RecordBatch.from_arrays(
        [
            batch.column("pair_id"),
            batch.column("image_id"),
            vector_array(vectors, valid),
            pa.array(reasons, pa.string()),
        ],
        names=["pair_id", "image_id", "vector", "reason"],
    )
