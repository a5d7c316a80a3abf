"""Uncurated image–text pairs in, a curated, balanced, deduplicated Parquet dataset out."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.version import __version__

if TYPE_CHECKING:
    from curation.inspect.api.store import OpenStore
    from curation.inspect.embeddings import embedding_batches, read_embeddings

__all__ = ["__version__", "embedding_batches", "open", "read_embeddings"]

# MKL, inside torch, reads it at its first product. Without, the bits of a vector depend on the number
# of threads on processors with AMX; its price was within the noise.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


def open(path: str | Path, recipe: str | Path | None = None, run: str | None = None) -> "OpenStore":
    """Open a store to read its tables.

    Args:
        path: folder or URI of the store.
        recipe: name of a recipe that ran on it, or the path of its file. It may be left out where the
            store has runs of one recipe.
        run: a run: a tag, or the beginning of its name. The default is the latest finished run of the
            recipe.

    Raises:
        StoreError: the store has no finished run, there is no such recipe or run, or there are several
            recipes and none is named; the message lists them.
    """
    from curation.inspect.api.store import OpenStore

    return OpenStore(path, recipe, run)


def __getattr__(name: str) -> Any:
    """Import what notebooks use when they do: the command line starts without it."""
    if name in ("embedding_batches", "read_embeddings"):
        from curation.inspect import embeddings as reading

        return getattr(reading, name)
    raise AttributeError(f"module 'curation' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the names that a notebook completes, with those that are imported when they are used."""
    return sorted({*globals(), *__all__})
