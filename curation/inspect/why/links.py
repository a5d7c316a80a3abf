"""The pairs of some images that count as copies, as `dedup` decides it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.engine.contract import contract
from curation.engine.table import Table
from curation.inspect.why.tables import RowReader
from curation.inspect.why.values import text, texts
from curation.stages.dedup.agreement import MEASURED, agrees
from curation.stages.dedup.decide import similarity_thresholds
from curation.stages.dedup.edges import METHODS, NEIGHBOUR_COLUMNS, filter_similar
from curation.stages.dedup.params import DedupParams, Verify

Pair = tuple[str, str]


def links_between(tables: RowReader, image_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return the near pairs of some pool images that count, the most certain method first.

    Args:
        tables: of the recipe.
        image_ids: the images of a component.

    Returns:
        `image_id` and `evidence_id` of both ends, `similarity` and `method`.
    """
    if "neighbours" not in tables:
        return []
    params = DedupParams.model_validate(tables["copies"].manifest.params)
    wanted = sorted(set(image_ids))
    near = _pairs_between(tables["neighbours"], wanted, NEIGHBOUR_COLUMNS)
    for role in ("role_a", "role_b"):
        near = near.filter(pc.equal(near.column(role), text("pool")))
    agreeing = _agreeing(tables, wanted, params.verify) if params.verify else None
    links = [
        {"image_id": row["image_a"], "evidence_id": row["image_b"]}
        | {name: row[name] for name in ("similarity", "method")}
        for part in filter_similar(near, similarity_thresholds(params, [])[0])
        for row in part.to_pylist()
        if agreeing is None or row["method"] == "semantic" or _ends(row) in agreeing
    ]
    return sorted(links, key=lambda link: (METHODS.index(link["method"]), -link["similarity"]))


def _ends(row: dict[str, Any]) -> Pair:
    first, second = sorted((row["image_a"], row["image_b"]))
    return first, second


def _agreeing(tables: RowReader, wanted: Sequence[str], bounds: Verify) -> set[Pair]:
    """Return the pairs of some images whose pixels agree; the smaller image comes first."""
    if "verified" not in tables:
        return set()
    rows = _pairs_between(tables["verified"], wanted, ["image_a", "image_b", *MEASURED])
    agree = agrees({name: rows.column(name).to_numpy() for name in MEASURED}, bounds)
    return {_ends(row) for row in rows.filter(pa.array(agree)).to_pylist()}


def _pairs_between(table: Table, wanted: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """Return the rows of a table of pairs that have both images among some."""
    among = texts(wanted)
    parts = [contract(table.manifest.table).arrow_schema().empty_table().select(list(columns))]
    for fragment in table.fragments.values():
        for rows in fragment.row_groups_with("image_a", wanted):
            both = pc.and_(pc.is_in(rows["image_a"], among), pc.is_in(rows["image_b"], among))
            parts.append(rows.select(list(columns)).filter(both))
    return pa.concat_tables([part.replace_schema_metadata() for part in parts])
