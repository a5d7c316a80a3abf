"""What changed between two datasets, and why: images added, removed, or claimed by other arms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from curation.engine.store import DATASET, Store
from curation.engine.table import Table, open_table
from curation.errors import StoreError
from curation.inspect.lineage import ancestry

BUCKET_IMAGES = 4_000_000
"""Images compared at once, by the beginning of their identity; about 1 GB."""
NOT_ASKED_FOR = "not_in_sources"
NO_ARM = "no_arm_claims_it"

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
    """Return the dataset of `STORE`, or a version of it: `STORE@VERSION`, where a beginning will do.

    Raises:
        StoreError: there is no such dataset, or several versions begin so.
    """
    where, _, wanted = place.rpartition("@") if "@" in place.rsplit("/", 1)[-1] else (place, "", "")
    store = Store(where)
    if not wanted:
        return open_table(store, DATASET)
    versions = store.versions(DATASET)
    found = [version for version in versions if version.startswith(wanted)]
    if len(found) != 1:
        raise StoreError(
            f"{len(found)} versions of the dataset in {store.uri} begin with {wanted!r}. "
            f"There are: {', '.join(versions) or 'none'}"
        )
    return open_table(store, DATASET, found[0])


def difference(before: Table, after: Table) -> Iterator[pa.RecordBatch]:
    """Yield the images that are not the same in both datasets, in order of their identity.

    `change` is `added`, `removed` or `other_arms`. `reason` says why the image is not in the dataset
    that lacks it: the reason of its `eligible` table, `no_arm_claims_it`, or `not_in_sources`.
    """
    for first, last in _buckets(max(before.rows, after.rows)):
        both = [_arms(table, first, last) for table in (before, after)]
        names = both[0].index.union(both[1].index)
        arms_before, arms_after = (arms.reindex(names) for arms in both)
        had, has = arms_before.notna(), arms_after.notna()
        changed = pd.Series(np.where(had & has, "other_arms", np.where(has, "added", "removed")))
        changed.index = names
        differ = arms_before.fillna("") != arms_after.fillna("")
        reason = pd.concat(
            [
                _fates(before, names[~had]),
                _fates(after, names[~has]),
            ]
        ).reindex(names)
        rows = pd.DataFrame(
            {
                "image_id": names,
                "change": changed.to_numpy(),
                "reason": reason.to_numpy(),
                "arms_before": [_split(arms) for arms in arms_before],
                "arms_after": [_split(arms) for arms in arms_after],
            }
        )[differ.to_numpy()]
        yield pa.RecordBatch.from_pandas(rows, SCHEMA, preserve_index=False)


def _buckets(images: int) -> Iterator[tuple[str, str]]:
    """Yield (first, end) of ranges of the first two hex digits; `end` is after the last digit."""
    many = int(np.clip(-(-images // BUCKET_IMAGES), 1, 256))
    edges = [f"{256 * number // many:02x}" for number in range(many)]
    yield from zip(edges, [*edges[1:], "g"], strict=True)


def _arms(dataset: Table, first: str, last: str) -> pd.Series[str]:
    """Return the arms that claim each image of a range, joined, by image."""
    parts = []
    for fragment in dataset.fragments.values():
        for batch in fragment.batches(["image_id", "claims"], rows=65_536):
            own = _between(pa.Table.from_batches([batch]), first, last)
            claims = own.column("claims").combine_chunks()
            arm = pc.struct_field(pc.list_flatten(claims), "arm").to_pandas()
            parent = pc.list_parent_indices(claims).to_numpy()
            frame = pd.DataFrame({"row": parent, "arm": arm}).drop_duplicates()
            joined = frame.sort_values(["row", "arm"]).groupby("row")["arm"].agg("\n".join)
            names = own.column("image_id").to_pandas()
            parts.append(pd.Series(joined.to_numpy(), index=names.to_numpy()[joined.index]))
    found: pd.Series[str] = pd.concat(parts) if parts else pd.Series(dtype=object)
    return found


def _between(table: pa.Table, first: str, last: str) -> pa.Table:
    names = table.column("image_id")
    return table.filter(pc.and_(pc.greater_equal(names, first), pc.less(names, last)))


def _fates(dataset: Table, names: pd.Index[Any]) -> pd.Series[str]:
    """Return why each of these images is not in a dataset; of several rows the best placed counts."""
    fate = pd.Series(NOT_ASKED_FOR, index=names, dtype=object)
    if not len(names):
        return fate
    wanted = pa.array(names, pa.string())
    parts = []
    for fragment in ancestry(dataset)["eligible"].fragments.values():
        table = fragment.read(["image_id", "pair_id", "role", "reason"])
        parts.append(table.filter(pc.is_in(table.column("image_id"), wanted)).to_pandas())
    rows = pd.concat(parts)
    # A row that may be retrieved says more than one that was dropped; then the pool's say more.
    rows = rows.assign(dropped=rows["reason"].notna(), elsewhere=rows["role"] != "pool")
    rows = rows.sort_values(["dropped", "elsewhere", "pair_id"]).drop_duplicates("image_id")
    fate.update(rows.set_index("image_id")["reason"].fillna(NO_ARM))
    return fate


def _split(arms: Any) -> list[str]:
    return arms.split("\n") if isinstance(arms, str) else []
