"""Assumptions, and the rates and prices that small YAML files give."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import Field, ValidationError

from curation.engine.params_base import StrictModel
from curation.engine.resources import resource_dir
from curation.errors import RecipeError
from curation.recipe import explain

Model = TypeVar("Model", bound=StrictModel)


class Assumptions(StrictModel):
    """What only the data will show; `--assume` changes it. Shares are of what comes before."""

    fetched: float = Field(default=0.6, gt=0, le=1)
    """Pool rows asked for that give a picture; old lists give less."""
    distinct: float = Field(default=0.85, gt=0, le=1)
    """Fetched pool pictures that stay when copies go (LVD-142M: 1.1 of 1.3 billion)."""
    clean: float = Field(default=0.68, gt=0, le=1)
    """Of those, not near a held-out picture (LVD-142M: 744 million of 1.1 billion)."""
    fit: float = Field(default=1.0, gt=0, le=1)
    """Of those, within the thresholds of `select`."""
    original_kib: float = Field(default=150, gt=0)
    """A picture as it comes over the network."""
    stored_kib: float = Field(default=60, gt=0)
    """A picture as it is stored, after resizing."""
    row_bytes: int = Field(default=250, ge=1)
    """A row of a list: URL, caption, metadata."""
    near_pairs: float = Field(default=4, ge=0)
    """Pairs above the floor of `neighbours`, a picture."""
    rows_per_fragment: int = Field(default=100_000, ge=1)
    """Rows of a fragment; a recipe's own number stands before this."""


class Rates(StrictModel):
    """What one core, or one GPU, does in a second; `curation calibrate` measures the first part."""

    measured_on: str
    ingest_rows: float = Field(gt=0)
    fetch_rows: float = Field(gt=0)
    screen_images: float = Field(gt=0)
    decode_images: float = Field(gt=0)
    hash_queries: float = Field(gt=0)
    compared_pairs: float = Field(gt=0)
    table_mb: float = Field(gt=0)
    cpu_gflop: float = Field(gt=0)
    gpu_gflop: float | None = Field(default=None, gt=0)
    """Of one GPU, in the products of a model; none: encoders run on CPUs."""


class Prices(StrictModel):
    """What things cost; any currency."""

    currency: str = "USD"
    core_hour: float = Field(ge=0)
    gpu_hour: float = Field(ge=0)
    stored_tb_month: float = Field(ge=0)
    received_tb: float = Field(ge=0)


def load(model: type[Model], path: str | Path) -> Model:
    """Return the model in a YAML file.

    Raises:
        RecipeError: no such file, or not what the model says.
    """
    try:
        spec = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        return model.model_validate(spec)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"Cannot read {str(path)!r}: {error}") from error
    except ValidationError as error:
        raise RecipeError(f"{path}:\n  {explain(error, model)}") from error


def shipped(name: str) -> Path:
    """Return a file of `conf/costs`."""
    return resource_dir("conf") / "costs" / f"{name}.yaml"
