"""Writes claims into the fragments of the rows that represent their images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.arrays.ids import to_ids
from curation.engine.contract import contract
from curation.engine.exchange import KEY, Exchange, ExchangeInput, MapTask, group_keys
from curation.engine.exchange_runner import WorkTable
from curation.engine.sorted_arrays import run_starts, runs
from curation.engine.units import StageOutput
from curation.stages.retrieve.claims import Arms
from curation.stages.retrieve.images import images_of_claims
from curation.stages.retrieve.limits import ClaimedParts

SCHEMA = contract("claims").arrow_schema()
PLACED_CLAIMS = pa.schema(
    [
        ("fragment", pa.int32()),
        ("arm", pa.int16()),
        *(SCHEMA.field(n) for n in ("image_id", "pair_id", "seed_image_id")),
        *(SCHEMA.field(n) for n in ("similarity", "rank", "cluster_id")),
    ]
)
"""Claims with the number of their fragment and the pair_id of the row that represents their image."""
FRAGMENT_SIZES = pa.schema([("fragment", pa.int32()), ("claims", pa.int64())])
LARGEST_RANK = np.iinfo(np.int32).max

Numbers = npt.NDArray[np.int64]


def count_by_fragment(claims: WorkTable, images: WorkTable) -> StageOutput:
    """Yield FRAGMENT_SIZES of a part of the claims."""
    fragment = images_of_claims(claims.read(), images).column("fragment").to_numpy()
    numbers, counts = np.unique(fragment, return_counts=True)
    yield pa.RecordBatch.from_arrays([pa.array(numbers), pa.array(counts)], schema=FRAGMENT_SIZES)
    return None


def group_fragments(sizes: Numbers, rows_per_group: int) -> list[Numbers]:
    """Return the numbers of fragments with claims, in groups of about as many claims each.

    Args:
        sizes: number of claims in each fragment.
        rows_per_group: claims from which a new group begins.
    """
    numbers = np.flatnonzero(sizes)
    group = np.cumsum(sizes[numbers]) // max(1, rows_per_group)
    starts = np.flatnonzero(run_starts(group))
    return np.split(numbers, starts[1:]) if len(numbers) else []


def write_exchange(
    parts: ClaimedParts, names: Sequence[str], groups: Sequence[Numbers]
) -> Exchange:
    """Return the exchange that writes the fragments of `claims`; one part writes those of a group.

    Args:
        parts: the claims that are left.
        names: of all fragments.
        groups: numbers of the fragments that have claims, ascending.
    """
    # A task gets a number for each group, and not one for each fragment.
    bounds = np.array([group[0] for group in groups])
    tasks = [
        MapTask(read_placed, {"claims": claims, "images": images, "bounds": bounds})
        for claims, images in zip(parts.claims, parts.images, strict=True)
    ]
    named = [{number: names[number] for number in group.tolist()} for group in groups]
    return Exchange(
        "write claims",
        {"rows": ExchangeInput(PLACED_CLAIMS, tasks)},
        write_fragments,
        len(groups),
        {"arms": parts.arms},
        lambda part: dict.fromkeys(named[part].values(), "claims"),
        part_arguments=[{"names": of_group} for of_group in named],
    )


def read_placed(claims: WorkTable, images: WorkTable, bounds: Numbers) -> Iterator[pa.Table]:
    """Yield PLACED_CLAIMS, keyed by the group of their fragment.

    Args:
        claims: a part of CLAIMS.
        images: the same part of IMAGES.
        bounds: number of the first fragment of each group.
    """
    table = placed_claims(claims, images)
    yield table.append_column(KEY, group_keys(table, bounds))


def placed_claims(claims: WorkTable, images: WorkTable) -> pa.Table:
    """Return PLACED_CLAIMS of a part of the claims."""
    rows = claims.read()
    known = images_of_claims(rows, images)
    columns = {name: rows.column(name) for name in PLACED_CLAIMS.names if name in rows.column_names}
    columns |= {name: known.column(name) for name in ("fragment", "pair_id")}
    return pa.table(columns, schema=PLACED_CLAIMS)


def write_fragments(rows: pa.Table, arms: Arms, names: Mapping[Any, str]) -> StageOutput:
    """Write the claims of some fragments, by image, arm, seed image and rank.

    Args:
        rows: all PLACED_CLAIMS of the fragments.
        arms: of the recipe.
        names: of the fragments, by their numbers.

    Yields:
        (name of the fragment, batch of `claims`).
    """
    arm_names = np.array([fields["name"] for fields in arms.fields])
    arm_order = np.empty(len(arm_names), np.int64)
    arm_order[np.argsort(arm_names)] = np.arange(len(arm_names))
    arm, fragment = (rows.column(n).to_numpy().astype(np.int64) for n in ("arm", "fragment"))
    seeds = np.asarray(rows.column("seed_image_id").fill_null(""), dtype="S32")
    rank = rows.column("rank").fill_null(LARGEST_RANK).to_numpy()
    keys = (rank, seeds, arm_order[arm], to_ids(rows.column("image_id")), fragment)
    rows = rows.take(pa.array(np.lexsort(keys))).combine_chunks()
    table = _with_names(rows, arms)
    for number, start, stop in runs(rows.column("fragment").to_numpy()):
        (batch,) = table.slice(start, stop - start).combine_chunks().to_batches()
        yield names[number], batch
    return None


def _with_names(rows: pa.Table, arms: Arms) -> pa.Table:
    """Return rows with the columns of `claims`."""
    arm = rows.column("arm").combine_chunks()
    columns = {n: rows.column(n) for n in SCHEMA.names if n in rows.column_names}
    for column, field in (("arm", "name"), ("seed_set", "seeds"), ("strategy", "strategy")):
        values = pa.array([fields[field] for fields in arms.fields], pa.string())
        columns[column] = values.take(arm)
    return pa.table(columns, schema=SCHEMA)
