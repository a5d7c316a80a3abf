"""embed: a vector an encoder for every fetched picture, or its caption, all over one decode."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

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

NARROW = ["pair_id", "image_id", "status"]
Embedded = Literal["image", "caption"]


def embed(images: Fragment, *, params: EmbedParams, device: str) -> Rows:
    """Embed each picture, or its caption, with every encoder.

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
    wanted = sorted({spec.of for spec in params.encoders.values()})
    for batch in images.batches([*NARROW, *wanted], rows=params.batch_size):
        given = {of: _given(batch, of) for of in wanted}
        for name, encoder in encoders.items():
            of = params.encoders[name].of
            vectors, valid = encode(encoder, given[of], params.batch_size, device)
            yield f"embeddings.{name}", _rows(batch, given[of], vectors, valid, _ABSENT[of])
    return {f"embeddings.{n}": {"encoder": e.identity, **_STORED} for n, e in encoders.items()}


_STORED = {"dtype": "<f2", "normalized": "L2"}
_ABSENT = {"image": "undecodable", "caption": "no_caption"}
"""Why a fetched row has nothing to embed."""


def _given(batch: pa.RecordBatch, of: Embedded) -> list[Any]:
    """Return what is embedded of each row, None where there is nothing."""
    usable = decode if of == "image" else readable
    return [
        usable(value) if status == "ok" and value is not None else None
        for status, value in zip(
            batch.column("status").to_pylist(), batch.column(of).to_pylist(), strict=True
        )
    ]


def readable(caption: str) -> str | None:
    """Return a caption, or None where it is blank."""
    return caption if caption.strip() else None


def decode(image: bytes) -> Image.Image | None:
    """Return a stored image as RGB, or None where it cannot be decoded."""
    try:
        with Image.open(io.BytesIO(image)) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def encode(
    encoder: Encoder, given: Sequence[Any], batch_size: int, device: str
) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]]:
    """Return unit vectors (n, dim) and which of them are valid; the others are zero.

    Every forward pass has the same shape, so that a vector does not depend on what happens to share
    its batch: fragments of any size give the same bits.

    Args:
        encoder: the model.
        given: RGB pictures, or captions, None where there is none.
        batch_size: rows of a forward pass.
        device: where the model is.
    """
    import torch

    vectors = np.zeros((len(given), encoder.dim), dtype=np.float16)
    valid = np.zeros(len(given), dtype=bool)
    for rows in _blocks([i for i, one in enumerate(given) if one is not None], batch_size):
        inputs = encoder.blank.repeat(batch_size, *[1] * encoder.blank.ndim)
        for place, row in enumerate(rows):
            inputs[place] = encoder.preprocess(given[row])
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
    given: Sequence[Any],
    vectors: npt.NDArray[np.float16],
    valid: npt.NDArray[np.bool_],
    absent: str,
) -> pa.RecordBatch:
    def reason(status: str, one: Any, has_vector: bool) -> str | None:
        if status != "ok":
            return "no_pixels"
        if one is None:
            return absent
        return None if has_vector else "not_finite"

    reasons = [
        reason(s, one, bool(v))
        for s, one, v in zip(batch.column("status").to_pylist(), given, valid, strict=True)
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
