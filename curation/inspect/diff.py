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
from curation.errors import Detail, RecipeError, StoreError
from curation.inspect.lineage import table_behind
from curation.store.run_log import run_names
from curation.store.store import DATASET, Store

BUCKET_IMAGES = 4_000_000
"""Images compared at once, by the beginning of their ids; they take about 1 GB."""
NOT_IN_SOURCES = "not_in_sources"
NOT_CLAIMED = "no_arm_claims_it"
OTHER_IMAGE = "its_pair_has_another_image"

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
        RecipeError: an @ stands there without a version or a run.
        StoreError: there is no such dataset, or several versions and runs have that beginning.
    """
    _check_named(place)
    uri, prefix = _parts_of(place)
    store = Store(uri)
    if not prefix:
        return open_table(store, DATASET)
    versions = [v for v in store.versions(DATASET) if v.startswith(prefix)]
    if not versions:
        return open_table(store, DATASET, run=prefix)
    runs = [run for run in run_names(store) if run.startswith(prefix)]
    if runs and prefix not in versions:
        message = f"versions of the dataset and runs in {store.uri} begin with {prefix!r}"
        fix = "Write more of the name"
        raise StoreError(Detail(message, place, prefix, [*versions, *runs], fix))
    return open_table(store, DATASET, prefix)


def _check_named(place: str) -> None:
    """Refuse an @ without a version or a run: a shell leaves it of a variable that is not set."""
    is_cut = place.endswith("@") or ("://" in place and "@?" in place)
    if is_cut and not Path(place).is_dir():
        fix = "Name one, or leave the @ out for the dataset of the latest finished run"
        raise RecipeError(Detail("no version and no run stands after the @", place, "", fix=fix))


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
    that lacks it: the reason in the `eligible` table of that dataset, `no_arm_claims_it`,
    `its_pair_has_another_image`, or `not_in_sources`.
    """
    for first, end in _buckets(max(before.rows, after.rows)):
        arms_before, arms_after = _arms(before, first, end), _arms(after, first, end)
        ids = arms_before.index.union(arms_after.index)
        arms_before, arms_after = arms_before.reindex(ids), arms_after.reindex(ids)
        in_before, in_after = arms_before.notna(), arms_after.notna()
        change = np.where(in_after, "added", "removed")
        change = np.where(in_before & in_after, "other_arms", change)
        reasons = [
            _missing_reasons(before, ids[~in_before], after),
            _missing_reasons(after, ids[~in_after], before),
        ]
        rows = pd.DataFrame(
            {
                "image_id": ids,
                "change": change,
                "reason": pd.concat(reasons).reindex(ids).to_numpy(),
                # A list without items has no type that Arrow could make lists of.
                "arms_before": pd.Series(map(_split, arms_before), dtype=object),
                "arms_after": pd.Series(map(_split, arms_after), dtype=object),
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


def _missing_reasons(dataset: Table, ids: pd.Index[Any], other: Table) -> pd.Series[str]:
    """Return why images of another dataset are not in a dataset, by image id."""
    reasons = pd.Series(NOT_IN_SOURCES, index=ids, dtype=object)
    if not len(ids):
        return reasons
    eligible = table_behind(dataset, "eligible")
    rows = _rows_with("image_id", ids, eligible, ["image_id", "pair_id", "role", "reason"])
    # Of several rows of an image one that may be retrieved counts first, then one of the pool.
    rows = rows.assign(dropped=rows["reason"].notna(), not_pool=rows["role"] != "pool")
    rows = rows.sort_values(["dropped", "not_pool", "pair_id"]).drop_duplicates("image_id")
    reasons.update(rows.set_index("image_id")["reason"].fillna(NOT_CLAIMED))
    unknown = ids.difference(pd.Index(rows["image_id"]))
    if len(unknown):
        reasons.update(_reasons_of_pairs(eligible, other, unknown))
    return reasons


def _reasons_of_pairs(eligible: Table, other: Table, ids: pd.Index[Any]) -> pd.Series[str]:
    """Return why pairs have no longer the images that they have in another dataset, by image id.

    A row whose image could not be fetched has no image id, so it is known by its pair. Images whose
    pairs are not there are left out.
    """
    images = _rows_with("image_id", ids, other, ["image_id", "pair_id"])
    pairs = _rows_with("pair_id", images["pair_id"], eligible, ["pair_id", "image_id", "reason"])
    pairs = pairs.assign(reason=pairs["reason"].mask(pairs["image_id"].notna(), OTHER_IMAGE))
    # Of several rows of a pair one with an image comes first.
    pairs = pairs.sort_values(["image_id", "reason"]).drop_duplicates("pair_id")
    joined = images.merge(pairs[["pair_id", "reason"]], on="pair_id")
    by_image: pd.Series[str] = joined.set_index("image_id")["reason"]
    return by_image


def _rows_with(
    column: str, values: pd.Index[Any] | pd.Series[Any], table: Table, columns: list[str]
) -> pd.DataFrame:
    """Return some columns of the rows in which a column has one of some values."""
    wanted = pa.array(values, pa.string())
    parts = []
    for fragment in table.fragments.values():
        rows = fragment.read(columns)
        parts.append(rows.filter(pc.is_in(rows.column(column), wanted)).to_pandas())
    return pd.concat(parts) if parts else pd.DataFrame(columns=columns)


def _split(arms: Any) -> list[str]:
    return arms.split("\n") if isinstance(arms, str) else []
