"""Uncurated image–text pairs in, a curated, balanced, deduplicated Parquet dataset out."""

import os
from typing import TYPE_CHECKING, Any

from curation.version import __version__

if TYPE_CHECKING:
    from curation.inspect.embeddings import embedding_batches, read_embeddings

__all__ = ["__version__", "embedding_batches", "read_embeddings"]

# MKL, inside torch, reads it at its first product. Without, the bits of a vector depend on the number
# of threads on processors with AMX; its price was within the noise.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


def __getattr__(name: str) -> Any:
    """Import what notebooks use when they do: the command line starts without it."""
    if name in ("embedding_batches", "read_embeddings"):
        from curation.inspect import embeddings as reading

        return getattr(reading, name)
    raise AttributeError(f"module 'curation' has no attribute {name!r}")
