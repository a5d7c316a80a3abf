"""The block `assemble` of a recipe."""

from __future__ import annotations

from typing import Literal

from curation.engine.params_base import StrictModel, execution_only
from curation.engine.stage import Read, Stage

KeptPixels = Literal["all", "without_url", "none"]
"""Whose stored images the dataset holds: those of all rows, of rows without a URL, or of none."""


class AssembleParams(StrictModel):
    """What the dataset holds."""

    pixels: bool | None = None
    """Whether the dataset holds the stored images; otherwise they are only in the table `images`. By
    default it holds the images of rows without a URL, since nothing else in it leads to them."""
    rows_per_file: int = execution_only(100_000, ge=1)
    """Largest number of images in a file of the dataset."""
    bytes_per_file: int = execution_only(256 * 2**20, ge=2**10, le=2**30)
    """Largest size of a file of the dataset, in bytes, before compression. A single larger image has a
    file of its own."""


class AssembleStep(StrictModel):
    """What the stage assemble gets."""

    pixels: KeptPixels
    """Whose stored images the dataset holds."""
    rows_per_file: int = execution_only(100_000, ge=1)
    """Largest number of images in a file."""
    bytes_per_file: int = execution_only(256 * 2**20, ge=1)
    """Largest size of a file in bytes, before compression."""
    seed: int
    """Seed of the recipe, which decides the order of the images."""
    run: str
    """Fingerprint of the run, which each row of the dataset names."""


STAGE = Stage(
    number=90,
    name="assemble",
    kind="global",
    params=AssembleStep,
    writes="dataset",
    reads=(Read("images"), Read("copies"), Read("assignments"), Read("claims")),
    version=3,
)
