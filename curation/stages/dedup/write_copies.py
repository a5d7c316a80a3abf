"""Writes a decision: rows of `copies`, and the counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.arrays.ids import from_ids
from curation.algorithms.arrays.vectors import RowNumbers
from curation.engine.contract import contract
from curation.stages.dedup.components import LARGEST_SHOWN
from curation.stages.dedup.copy_lists import copy_list_columns, listed_copies
from curation.stages.dedup.decision import NO_ROW, REPRESENTATIVE, ROW_METHODS, Decision
from curation.stages.dedup.fetched_rows import FetchedRows
from curation.stages.dedup.params import DedupParams

SCHEMA = contract("copies").arrow_schema()


def copies_batches(
    rows: FetchedRows, decision: Decision, bounds: RowNumbers
) -> Iterator[pa.RecordBatch]:
    """Yield a batch of `copies` for each range of rows.

    Args:
        rows: all rows.
        decision: about these rows.
        bounds: where ranges of rows begin, from 0, and after them the number of rows.
    """
    both = zip(decision.pool_copies(rows), decision.copies_of_seeds(rows), strict=True)
    copies = listed_copies(rows, *(np.concatenate(parts) for parts in both))
    lists = copy_list_columns(rows, copies, bounds, SCHEMA.field("copies").type)
    for (first, last), copy_lists in zip(pairwise(bounds.tolist()), lists, strict=True):
        columns = _columns(rows, decision, np.arange(first, last)) | {"copies": copy_lists}
        yield pa.record_batch(columns, schema=SCHEMA)


def _columns(rows: FetchedRows, decision: Decision, selected: RowNumbers) -> dict[str, pa.Array]:
    """Return all columns of some rows, except the list of copies."""
    links, contamination = decision.links, decision.contamination
    fragment = rows.fragment[selected]
    pair_id = rows.pair_ids(selected)
    representative_pair_id = pair_id.copy()
    representative = links.representative[selected]
    others = np.flatnonzero(representative != selected)
    if len(others):
        representative_pair_id[others] = rows.pair_ids(representative[others])

    def image_ids(image_rows: RowNumbers) -> pa.Array:
        row = image_rows[selected]
        return from_ids(rows.image_ids[row], known=row != NO_ROW)

    return {
        "pair_id": from_ids(pair_id),
        "image_id": from_ids(rows.image_ids[selected]),
        "role": pa.array(rows.roles[fragment], pa.string()),
        "source": pa.array(rows.sources[fragment], pa.string()),
        "component_id": image_ids(links.component),
        "representative_id": image_ids(links.representative),
        "representative_pair_id": from_ids(representative_pair_id),
        "method": _names(ROW_METHODS, links.method[selected]),
        "similarity": _null_for_nan(links.similarity[selected]),
        "evidence_id": image_ids(links.evidence),
        "contaminated_by": image_ids(contamination.by),
        "contaminated_via": image_ids(contamination.via),
        "contaminated_set": _names(rows.held_out_sets, contamination.set[selected]),
        "contamination_method": _names(ROW_METHODS, contamination.method[selected]),
        "contamination_similarity": _null_for_nan(contamination.similarity[selected]),
        "copy_of_seed": image_ids(decision.copied_seed),
    }


def _null_for_nan(values: npt.NDArray[np.float32]) -> pa.Array:
    return pa.array(values, pa.float32(), mask=np.isnan(values))


def _names(names: list[str], numbers: npt.NDArray[Any]) -> pa.Array:
    """Return the names with some numbers; null for −1."""
    return pa.array(np.array([*names, None], object)[numbers], pa.string())


def copies_stats(rows: FetchedRows, decision: Decision, params: DedupParams) -> dict[str, Any]:
    """Return the counts of rows (pool = kept + copies + contaminated), and other measurements.

    Args:
        rows: all rows.
        decision: about these rows.
        params: of the stage.
    """
    pool = rows.of_role("pool")
    contamination, method = decision.contamination, decision.links.method
    contaminated = contamination.by[pool] != NO_ROW
    clean = pool[~contaminated]
    copies = clean[method[clean] != REPRESENTATIVE]
    return {
        "pool": len(pool),
        "kept": len(clean) - len(copies),
        "contaminated": int(contaminated.sum()),
        "copies": _count_methods(method[copies]),
        "contaminated_seeds": int((contamination.by[rows.of_role("seed")] != NO_ROW).sum()),
        "contamination": {
            name: dict(_contamination_report(rows, decision, name, number))
            for number, name in enumerate(rows.held_out_sets)
            if params.held_out
        },
    } | decision.stats


def _count_methods(methods: npt.NDArray[np.int8]) -> dict[str, int]:
    numbers, counts = np.unique(methods, return_counts=True)
    by_name = {ROW_METHODS[n]: count for n, count in zip(numbers, counts.tolist(), strict=True)}
    return dict(sorted(by_name.items()))


def _contamination_report(
    rows: FetchedRows, decision: Decision, name: str, number: int
) -> Iterator[tuple[str, Any]]:
    """Yield how many images a held-out set has, how many have copies, and the copies by method."""
    contamination = decision.contamination
    by_set = contamination.set == number
    yield "images", len(np.unique(rows.image_ids[rows.of_source(name)]))
    yield "images_found", contamination.images_found[number]
    for role in ("pool", "seed"):
        role_rows = rows.of_role(role)
        yield role, _count_methods(contamination.method[role_rows[by_set[role_rows]]])


def aggregate_stats(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the `copies_stats` of all rows from those of parts that share no component."""
    largest = [component for part in parts for component in part["largest_components"]]
    largest.sort(key=lambda component: (-component["images"], component["component_id"]))
    counts = [{n: v for n, v in part.items() if n != "largest_components"} for part in parts]
    total: dict[str, Any] = _sum(counts)
    return total | {"largest_components": largest[:LARGEST_SHOWN]}


def _sum(values: Sequence[Any]) -> Any:
    """Add up numbers, or dictionaries of numbers name by name."""
    if not isinstance(values[0], dict):
        return sum(values)
    names = list(values[0])
    if any(list(value) != names for value in values):
        # Counts by method: a part may lack some methods.
        names = sorted({name for value in values for name in value})
    return {name: _sum([value[name] for value in values if name in value]) for name in names}
