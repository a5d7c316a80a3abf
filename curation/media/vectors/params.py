"""The parameters of imported vectors: which row of a source a vector belongs to."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from curation.engine.params_base import Name, StrictModel, input_file

Join = Literal["key", "sha256", "rows"]


class VectorIds(StrictModel):
    """Which row of a source each imported vector belongs to."""

    join: Join
    """What the ids are: `key`, the key that the source maps; `sha256`, the SHA-256 of the original
    image file (64 hexadecimal digits, or 32 bytes); or `rows`: there are no ids, vector n belongs to
    row n of the source."""
    file: str | dict[Name, str] | None = input_file(None)
    """Path of the ids, in the order of the vectors: a `.npy` file of texts or whole numbers, a `.txt`
    file with one id per line, a Parquet file, or a folder of one of them; or such a path by source.
    Null takes them from the Parquet files with the vectors."""
    column: str | None = None
    """Column of Parquet files with the ids."""

    @model_validator(mode="after")
    def _fit_together(self) -> VectorIds:
        if self.join == "rows" and (self.file is not None or self.column is not None):
            raise ValueError(
                "join: rows takes vector n for row n of the source, so there are no ids; remove `file` "
                "and `column`, or set join to what they hold: key or sha256"
            )
        if self.join != "rows" and self.file is None and self.column is None:
            raise ValueError(
                f"join: {self.join} needs the ids: set `column` to their column in the Parquet files "
                "with the vectors, or `file` to the path of a file of ids"
            )
        return self
