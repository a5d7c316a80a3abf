"""Compares two datasets: images added, removed, or claimed by other arms, and why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from curation.engine.table import Table, open_table
from curation.inspect.lineage import table_behind
from curation.store.store import DATASET, Store

BUCKET_IMAGES = 4_000_000
"""Images compared at once, by the beginning of their ids; they take about 1 GB."""
NOT_IN_SOURCES = "not_in_sources"
NOT_CLAIMED = "no_arm_claims_it"

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("change", pa.string()),
        ("reason", pa.string()),
        ("arms_before", pa.list_(pa.string())),
        ("arms_after", pa.list_(pa.string())),
    ]
)


def open_dataset(place: str) -> Table:
    """Return the dataset of `STORE`, `STORE@VERSION` or `STORE@RUN`; by default of the latest run.

    The beginning of a version or of a run is enough if no other begins so.

    Raises:
        StoreError: there is no such dataset, or several versions or runs have that beginning.
    """
    uri, prefix = _parts_of(place)
    store = Store(uri)
    if not prefix:
        return open_table(store, DATASET)
    if any(version.startswith(prefix) for version in store.versions(DATASET)):
        return open_table(store, DATASET, prefix)
    return open_table(store, DATASET, run=prefix)


def _parts_of(place: str) -> tuple[str, str]:
    """Return the address of a store, and the version or run after it; empty for none.

    In a URI with options, the version or run stands before or after them.
    """
    if "://" in place and "?" in place:
        path, _, query = place.partition("?")
        options, _, after = query.rpartition("@") if "@" in query else (query, "", "")
        uri, before = _parts_of(path)
        return f"{uri}?{options}", after or before
    parent, _, name = place.rpartition("/")
    # The name of a folder may have an @, and that of a machine, as in abfs://container@machine.
    if "@" not in name or parent.endswith(":/") or ("://" not in place and Path(place).is_dir()):
        return place, ""
    uri, _, prefix = place.rpartition("@")
    return uri, prefix


def difference(before: Table, after: Table) -> Iterator[pa.RecordBatch]:
    """Yield the images that are not the same in both datasets, in order of their ids.

    `change` is `added`, `removed` or `other_arms`. `reason` says why the image is not in the dataset
    that lacks it: the reason in the `eligible` table of that dataset, `no_arm_claims_it`, or
    `not_in_sources`.
    """
    for first, end in _buckets(max(before.rows, after.rows)):
        arms_before, arms_after = _arms(before, first, end), _arms(after, first, end)
        ids = arms_before.index.union(arms_after.index)
        arms_before, arms_after = arms_before.reindex(ids), arms_after.reindex(ids)
        in_before, in_after = arms_before.notna(), arms_after.notna()
        change = np.where(in_after, "added", "removed")
        change = np.where(in_before & in_after, "other_arms", change)
        reasons = [
            _missing_reasons(before, ids[~in_before]),
            _missing_reasons(after, ids[~in_after]),
        ]
        rows = pd.DataFrame(
            {
                "image_id": ids,
                "change": change,
                "reason": pd.concat(reasons).reindex(ids).to_numpy(),
                "arms_before": [_split(arms) for arms in arms_before],
                "arms_after": [_split(arms) for arms in arms_after],
            }
        )
        differ = arms_before.fillna("") != arms_after.fillna("")
        yield pa.RecordBatch.from_pandas(rows[differ.to_numpy()], SCHEMA, preserve_index=False)


def _buckets(images: int) -> Iterator[tuple[str, str]]:
    """Yield (first, end) of ranges of the first two hex digits of ids; the last end is "g"."""
    count = int(np.clip(-(-images // BUCKET_IMAGES), 1, 256))
    starts = [f"{256 * number // count:02x}" for number in range(count)]
    yield from zip(starts, [*starts[1:], "g"], strict=True)


def _arms(dataset: Table, first: str, end: str) -> pd.Series[str]:
    """Return the arms that claim each image of a range, joined by line breaks, by image id."""
    parts = []
    for fragment in dataset.fragments.values():
        for batch in fragment.batches(["image_id", "claims"], rows=65_536):
            rows = _between(pa.Table.from_batches([batch]), first, end)
            claims = rows.column("claims").combine_chunks()
            arm = pc.struct_field(pc.list_flatten(claims), "arm").to_pandas()
            row = pc.list_parent_indices(claims).to_numpy()
            arms = pd.DataFrame({"row": row, "arm": arm}).drop_duplicates()
            joined = arms.sort_values(["row", "arm"]).groupby("row")["arm"].agg("\n".join)
            ids = rows.column("image_id").to_pandas()
            parts.append(pd.Series(joined.to_numpy(), index=ids.to_numpy()[joined.index]))
    arms_by_id: pd.Series[str] = pd.concat(parts) if parts else pd.Series(dtype=object)
    return arms_by_id


def _between(table: pa.Table, first: str, end: str) -> pa.Table:
    ids = table.column("image_id")
    return table.filter(pc.and_(pc.greater_equal(ids, first), pc.less(ids, end)))


def _missing_reasons(dataset: Table, ids: pd.Index[Any]) -> pd.Series[str]:
    """Return why each of these images is not in a dataset, by image id."""
    reasons = pd.Series(NOT_IN_SOURCES, index=ids, dtype=object)
    if not len(ids):
        return reasons
    wanted = pa.array(ids, pa.string())
    parts = []
    for fragment in table_behind(dataset, "eligible").fragments.values():
        table = fragment.read(["image_id", "pair_id", "role", "reason"])
        parts.append(table.filter(pc.is_in(table.column("image_id"), wanted)).to_pandas())
    rows = pd.concat(parts)
    # Of several rows of an image one that may be retrieved counts first, then one of the pool.
    rows = rows.assign(dropped=rows["reason"].notna(), not_pool=rows["role"] != "pool")
    rows = rows.sort_values(["dropped", "not_pool", "pair_id"]).drop_duplicates("image_id")
    reasons.update(rows.set_index("image_id")["reason"].fillna(NOT_CLAIMED))
    return reasons


def _split(arms: Any) -> list[str]:
    return arms.split("\n") if isinstance(arms, str) else []
