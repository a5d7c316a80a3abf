"""Checks that only vectors of the same encoder, and so of the same dimension, are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from curation.engine.table import Table
from curation.engine.table_name import TableName
from curation.errors import StoreError
from curation.media.encoders.params import EMBEDDINGS
from curation.store.digest import digest
from curation.store.fragment import Fragment

TRAINED = {"centroids": "cluster", "codebooks": "quantise"}
"""Tables that are trained on vectors, and the stages that train them."""


@dataclass(frozen=True)
class Space:
    """An embedding space.

    Attributes:
        encoder: the identity of the encoder that embed recorded; None if it recorded none.
        dim: dimension of the vectors.
    """

    encoder: Mapping[str, Any] | None
    dim: int

    def holds(self, other: Space) -> bool:
        """Whether vectors of the two may be compared; without identities, by their dimensions."""
        if self.encoder is None or other.encoder is None:
            return self.dim == other.dim
        return self.encoder == other.encoder

    def __str__(self) -> str:
        if self.encoder is None:
            return f"an encoder without a recorded identity (dimension {self.dim})"
        return (
            f"{self.encoder['architecture']} (dimension {self.dim}, weights "
            f"{self.encoder['weights_sha256'][:12]}, preprocessing "
            f"{digest(self.encoder['preprocessing'], 12)})"
        )


def check_spaces(
    stage: str, tables: Mapping[str, Table], lineage: Mapping[str, str] | None = None
) -> None:
    """Check that a step would not compare vectors of different encoders or dimensions.

    Args:
        stage: the stage of the step.
        tables: that it reads.
        lineage: version of each table that these were made from last. Without it, those count from
            which each version was made first.

    Raises:
        StoreError: it would; the message names both encoders and the tables with their vectors.
    """
    spaces = {n: _space_of_table(stage, t) for n, t in tables.items() if EMBEDDINGS.holds(n)}
    for trained in TRAINED.keys() & tables.keys():
        trained_on, trained_space = _space_of_trained(tables[trained], lineage or {})
        for name, space in spaces.items():
            if space and trained_space and not trained_space.holds(space):
                raise StoreError(
                    f"Stage {stage!r} cannot compare vectors of two encoders: {trained} come "
                    f"from {trained_on} by {trained_space}, {name} is by {space}",
                    fix=(
                        f"Train {trained} on {name} (curation run RECIPE --store DIR --from "
                        f"{TRAINED[trained]}), or use the recipe that the {trained} were trained "
                        "with"
                    ),
                )


def _space_of_table(stage: str, table: Table) -> Space | None:
    """Return the only space of a table of embeddings; None for a table without vectors."""
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
                f"{table.manifest.table}, fragment {first[0]!r} is by {first[1]}, fragment "
                f"{name!r} by {space}. The weights of the model have changed between runs",
                fix=(
                    f"Set embed.encoders.{encoder}.weights to a file, or give the encoder a new "
                    "name, so that the same weights embed all fragments"
                ),
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


def _space_of_trained(trained: Table, lineage: Mapping[str, str]) -> tuple[str, Space | None]:
    """Return the table that centroids or codebooks were trained on, and its space at that time.

    Other vectors may lead to the same version, as with codebooks of an exact search, which have no
    rows. Its manifest names those that did so first.
    """
    for name, first in trained.manifest.reads.items():
        version = lineage.get(name, first)
        then = trained.store.manifest(name, version) if EMBEDDINGS.holds(name) else None
        for record in then.fragments if then else ():
            if "encoder" in record.stats:
                return name, _space_of(Fragment(trained.store, record))
    finest = next(iter(trained.fragments.values()), None)
    return "a table that was deleted", None if finest is None else _by_width(finest, np.float32)
