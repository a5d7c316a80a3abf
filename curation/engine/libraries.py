"""The libraries that rows depend on, for manifests."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

LIBRARIES = (
    "aiohttp",
    "albumentations",
    "brotli",
    "c2pa-python",
    "faiss-cpu",
    "faiss-gpu",
    "idna",
    "ImageHash",
    "img2dataset",
    "numpy",
    "onnxruntime",
    "open_clip_torch",
    "opencv-python-headless",
    "pandas",
    "pillow",
    "pillow-heif",
    "pillow-jxl-plugin",
    "py3langid",
    "pyarrow",
    "pyspark",
    "scikit-learn",
    "scipy",
    "simplejpeg",
    "timm",
    "tokenizers",
    "torch",
    "torchvision",
    "transformers",
    "yarl",
)
"""Distributions, by the names under which they are installed."""


@cache
def library_versions() -> dict[str, str]:
    """Return the version of each library that is installed, and of those inside Pillow."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions | _bundled_libraries()


def _bundled_libraries() -> dict[str, str]:
    """Return the versions of the libraries inside Pillow that decide pixels."""
    from PIL import features

    bundled = {
        "libavif": "avif",
        "libjpeg-turbo": "libjpeg_turbo",
        "libtiff": "libtiff",
        "libwebp": "webp",
        "littlecms": "littlecms2",
        "openjpeg": "jpg_2000",
        "zlib": "zlib",
    }
    versions = {name: features.version(feature) for name, feature in bundled.items()}
    return {name: str(version) for name, version in versions.items() if version}
