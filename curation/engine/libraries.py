"""The libraries that rows depend on, for manifests."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

LIBRARIES = (
    "pyarrow",
    "numpy",
    "torch",
    "timm",
    "img2dataset",
    "pillow",
    "pyspark",
    "faiss-cpu",
    "faiss-gpu",
)


def library_versions() -> dict[str, str]:
    """Return the version of each library that is installed."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
