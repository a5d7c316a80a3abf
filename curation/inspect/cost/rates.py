"""The assumptions of a cost estimate, and the rates and prices that it reads from YAML files."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import Field, ValidationError

from curation.engine import yaml_text
from curation.engine.explain import explain
from curation.engine.params_base import StrictModel
from curation.engine.resources import resource_dir
from curation.errors import Detail, RecipeError

Model = TypeVar("Model", bound=StrictModel)


class Assumptions(StrictModel):
    """What only the data can show; `--assume` changes it. Each share is relative to the one before."""

    fetched: float = Field(default=0.6, gt=0, le=1)
    """Share of pool rows whose image can be fetched; it is lower for old lists of URLs."""
    distinct: float = Field(default=0.85, gt=0, le=1)
    """Share of fetched pool images that remain without copies (LVD-142M: 1.1 of 1.3 billion)."""
    clean: float = Field(default=0.68, gt=0, le=1)
    """Share of those that are not near a held-out image (LVD-142M: 744 million of 1.1 billion). Without
    held-out sets all of them stay."""
    fit: float = Field(default=1.0, gt=0, le=1)
    """Share of those within the thresholds of `select`."""
    original_kib: float = Field(default=150, gt=0)
    """KiB of an image as it is downloaded."""
    stored_kib: float = Field(default=60, gt=0)
    """KiB of an image as it is stored, after resizing."""
    row_bytes: int = Field(default=250, ge=1)
    """Bytes of a source row: URL, caption, metadata."""
    near_pairs: float = Field(default=4, ge=0)
    """Pairs above the floor of `neighbours` per image, if any level looks for near pairs."""
    rows_per_fragment: int = Field(default=100_000, ge=1)
    """Rows of a fragment, where the recipe keeps the default of `ingest.rows_per_fragment`."""


class Rates(StrictModel):
    """What one core or one GPU does in a second; `curation calibrate` measures it."""

    measured_on: str
    """Machine on which the rates were measured."""
    ingest_rows: float = Field(gt=0)
    """List rows per second and core that are read and normalised."""
    fetch_rows: float = Field(gt=0)
    """Images per second and core that are decoded, resized and encoded."""
    screen_images: float = Field(gt=0)
    """Images per second and core that the default filters score."""
    decode_images: float = Field(gt=0)
    """Images per second and core that are decoded and prepared for an encoder."""
    hash_comparisons: float = Field(gt=0)
    """Pairs of perceptual hashes per second and core that are compared in lists."""
    compared_pairs: float = Field(gt=0)
    """Pairs of images per second and core whose pixels are compared."""
    table_mb: float = Field(gt=0)
    """Megabytes of Parquet per second and core that are written and read."""
    cpu_gflop: float = Field(gt=0)
    """Billions of float32 operations per second and core in a matrix product, as in a model."""
    cpu_product_gflop: float = Field(gt=0)
    """GFLOP per second and core in products that find the nearest of some thousand vectors."""
    cell_gflop: float = Field(gt=0)
    """GFLOP per second and core in searches for the 8 nearest within lists of a thousand vectors, with
    all that belongs to them. More neighbours take longer: 64 of them about twice as long."""
    near_cell_gflop: float = Field(gt=0)
    """The same where few pairs of a cell reach a floor, as in joins of near vectors."""
    gpu_gflop: float | None = Field(default=None, gt=0)
    """GFLOP of one GPU in the matrix products of a model; without it encoders run on CPUs."""
    gpu_product_gflop: float | None = Field(default=None, gt=0)
    """GFLOP of one GPU in products that find nearest vectors, in cells too; without it they run on
    CPUs."""

    def without_gpu(self) -> Rates:
        """Return the rates of a machine without GPUs."""
        return self.model_copy(update={"gpu_gflop": None, "gpu_product_gflop": None})


class Prices(StrictModel):
    """Prices in any one currency."""

    currency: str = "USD"
    """Currency of all prices, for display."""
    core_hour: float = Field(ge=0)
    """Price of one CPU core for one hour."""
    gpu_hour: float = Field(ge=0)
    """Price of one GPU for one hour."""
    stored_tb_month: float = Field(ge=0)
    """Price of one terabyte (10^12 bytes) of storage for one month."""
    received_tb: float = Field(ge=0)
    """Price of one terabyte (10^12 bytes) received over the network."""


def load_yaml(model: type[Model], path: str | Path) -> Model:
    """Return the model that a YAML file describes.

    Raises:
        RecipeError: the file cannot be read, or does not fit the model.
    """
    try:
        spec = yaml_text.load_yaml(Path(path).read_text(encoding="utf-8"))
        return model.model_validate(spec)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise RecipeError(Detail(f"Cannot read {str(path)!r}: {error}", str(path))) from error
    except ValidationError as error:
        raise RecipeError(*explain(error, model), within=str(path)) from error


def default_file(name: str) -> Path:
    """Return the path of a file of `conf/costs`: `rates` or `prices`."""
    return resource_dir("conf") / "costs" / f"{name}.yaml"
