"""The scores of a row beside their thresholds, and what `select` made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from curation.inspect.why.tables import Place, RowReader
from curation.stages.select.params import NO_SCORES, SCORE_TABLES, Threshold


def scores_of(tables: RowReader, place: Place, role: str) -> list[dict[str, Any]]:
    """Return every score of a row beside its threshold.

    Args:
        tables: of the recipe.
        place: of the row.
        role: of its source; thresholds apply to the pool alone.
    """
    params = tables["eligible"].manifest.params if "eligible" in tables else {}
    thresholds = params.get("thresholds", {}) if role == "pool" else {}
    rows: list[dict[str, Any]] = []
    for table in SCORE_TABLES:
        row = tables.row(table, place)
        if row is None:
            continue
        schema = tables[table].fragments[place.fragment].schema()
        assert schema is not None
        rows += [
            {"name": name, "value": value, "threshold": thresholds.get(name)}
            | {"passes": _passes(value, kind, thresholds[name]) if name in thresholds else None}
            for name, value, kind in ((n, v, schema.field(n).type) for n, v in row.items())
            if name not in NO_SCORES
        ]
    return rows


def _passes(value: Any, kind: pa.DataType, threshold: Mapping[str, Any]) -> bool:
    """Whether a score of a column of a type passes a threshold, as `select` decides."""
    is_single = kind == pa.float32() and value is not None
    return Threshold.model_validate(threshold).passes(np.float32(value) if is_single else value)
