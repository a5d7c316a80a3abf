"""Loads the writer of img2dataset alone."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

_LOCK = threading.Lock()


def parquet_writer() -> Any:
    """Return the class `ParquetSampleWriter` of img2dataset.

    The package imports its downloader with the writer, and webdataset torch where it is installed: six
    seconds of processor and half a gigabyte for every worker, which neither needs to write a shard.
    """
    with _LOCK:
        return _load_writer()


@lru_cache(maxsize=1)
def _load_writer() -> Any:
    package = importlib.util.find_spec("img2dataset")
    if package is None or not package.submodule_search_locations:
        raise ImportError("img2dataset is not installed; run `make setup`")
    path = Path(package.submodule_search_locations[0]) / "writer.py"
    spec = importlib.util.spec_from_file_location("curation_img2dataset_writer", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _without_torch():
        spec.loader.exec_module(module)
    return module.ParquetSampleWriter


@contextmanager
def _without_torch() -> Iterator[None]:
    """Let an import find no torch, unless it is imported already; webdataset works without."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]
