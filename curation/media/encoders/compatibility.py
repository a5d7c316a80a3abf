"""Vectors may meet only within one space: the same encoder, and so the same dimension."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from curation.engine.digest import digest
from curation.engine.fragment import Fragment
from curation.engine.table import Table
from curation.engine.table_name import TableName
from curation.errors import StoreError
from curation.media.encoders.params import EMBEDDINGS

TRAINED = {"centroids": "cluster", "codebooks": "quantise"}
"""Tables trained on vectors, and the stages that do."""


@dataclass(frozen=True)
class Space:
    """What embed recorded of an encoder (None where nothing was), and the length of its vectors."""

    encoder: Mapping[str, Any] | None
    dim: int

    def holds(self, other: Space) -> bool:
        """Whether vectors of the two may be compared; without a record dimensions must do."""
        if self.encoder is None or other.encoder is None:
            return self.dim == other.dim
        return self.encoder == other.encoder

    def __str__(self) -> str:
        if self.encoder is None:
            return f"an encoder that was not recorded (dimension {self.dim})"
        return (
            f"{self.encoder['architecture']} (dimension {self.dim}, weights "
            f"{self.encoder['weights_sha256'][:12]}, preprocessing "
            f"{digest(self.encoder['preprocessing'], 12)})"
        )


def check_spaces(stage: str, tables: Mapping[str, Table]) -> None:
    """Refuse the tables of a step if vectors of different encoders or dimensions would meet.

    Raises:
        StoreError: naming both encoders, where their vectors are, and how to mend it.
    """
    spaces = {n: _space_of_table(stage, t) for n, t in tables.items() if EMBEDDINGS.holds(n)}
    for trained in TRAINED.keys() & tables.keys():
        trained_on, theirs = _space_of_trained(tables[trained])
        for name, own in spaces.items():
            if own and theirs and not theirs.holds(own):
                raise StoreError(
                    f"Stage {stage!r} cannot compare vectors of two encoders: {trained} come from "
                    f"{trained_on} by {theirs}, {name} is by {own}. Train {trained} on {name} "
                    f"(curation run RECIPE --store DIR --from {TRAINED[trained]}), or go back to "
                    f"the recipe that the {trained} were made with."
                )


def _space_of_table(stage: str, table: Table) -> Space | None:
    """Return the one space of a table of embeddings; None where it has no rows."""
    first: tuple[str, Space] | None = None
    for name, fragment in table.fragments.items():
        space = _space_of(fragment)
        if space is None:
            continue
        if first is None:
            first = name, space
        elif not first[1].holds(space):
            encoder = TableName(table.manifest.table).member
            raise StoreError(
                f"Stage {stage!r} cannot compare vectors of two encoders: in "
                f"{table.manifest.table}, fragment {first[0]!r} is by {first[1]}, fragment {name!r} "
                f"by {space}. The model behind the name has changed between runs. Name its weights "
                f"as a file under embed.encoders.{encoder}.weights, or give the encoder a new "
                "name: all fragments are then embedded by the same one."
            )
    return None if first is None else first[1]


def _space_of(fragment: Fragment) -> Space | None:
    encoder = fragment.record.stats.get("encoder")
    if encoder is not None:
        return Space(encoder, encoder["dim"])
    return _by_width(fragment, np.float16)


def _by_width(fragment: Fragment, dtype: type[np.floating[Any]]) -> Space | None:
    schema = fragment.schema()
    if schema is None or not pa.types.is_fixed_size_binary(schema.field("vector").type):
        return None
    return Space(None, schema.field("vector").type.byte_width // np.dtype(dtype).itemsize)


def _space_of_trained(trained: Table) -> tuple[str, Space | None]:
    """Return the table that centroids or codebooks were trained on, and its space as it was then."""
    for name, version in trained.manifest.reads.items():
        then = trained.store.manifest(name, version) if EMBEDDINGS.holds(name) else None
        for record in then.fragments if then else ():
            if "encoder" in record.stats:
                return name, _space_of(Fragment(trained.store, record))
    finest = next(iter(trained.fragments.values()), None)
    return "a table that is gone", None if finest is None else _by_width(finest, np.float32)
