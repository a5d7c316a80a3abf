"""dedup: components of copies, a representative each, and what copies a held-out picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from curation.dedup.components import find_components
from curation.dedup.ties import (
    METHODS,
    Ties,
    both_ways,
    join_ties,
    near_ties,
    no_ties,
    perceptual_ties,
    strongest,
)
from curation.fragment import Table
from curation.params import DedupParams
from curation.table import contract
from curation.units import Context, Rows
from curation.vectors import Ids

IMAGES = ["pair_id", "image_id", "role", "source", "status", "caption"]
SIZES = ["original_width", "original_height"]


def dedup(
    images: Table, scores: Table, neighbours: Table, *, params: DedupParams, context: Context
) -> Rows:
    """Decide who copies whom.

    A component is judged by its representative; ties of seeds and held-out pictures among themselves
    make no component, since curated and evaluation sets are not ours to thin out: of these only exact
    copies within one source are.

    Yields:
        (fragment, batch of `copies`): a row for each fetched row, in order.

    Returns:
        Counts of ties, components and rows by outcome.
    """
    rows = _read_rows(images, scores)
    ties = _all_ties(rows, neighbours, params)
    table = _copies(rows, ties, params)
    columns = contract("copies").names
    schema = contract("copies").arrow_schema()
    by_fragment = table.groupby("fragment", sort=False)
    for name in images.fragments:
        own = by_fragment.get_group(name) if name in by_fragment.groups else table.iloc[:0]
        yield name, pa.RecordBatch.from_pandas(own[list(columns)], schema, preserve_index=False)
    return _counts(table, ties)


def _read_rows(images: Table, scores: Table) -> pd.DataFrame:
    """Return every fetched row, narrow: identities, size, length of caption, hash, fragment."""
    parts = []
    hashes = scores.fragments
    for name, fragment in images.fragments.items():
        part = fragment.read([*IMAGES, *SIZES]).to_pandas()
        part["phash"] = hashes[name].read(["phash"]).column("phash").to_pandas()
        part["fragment"] = name
        parts.append(part[part["status"] == "ok"])
    rows = pd.concat(parts, ignore_index=True)
    rows["pixels"] = rows["original_width"].astype(np.int64) * rows["original_height"]
    rows["caption_length"] = rows["caption"].fillna("").str.len()
    narrow: pd.DataFrame = rows.drop(columns=["caption", *SIZES])
    return narrow


def _images_of(rows: pd.DataFrame, role: str) -> pd.DataFrame:
    """Return the unique images of a role in id order: pixels, longest caption, hash."""
    own = rows[rows["role"] == role].sort_values(["image_id", "caption_length"])
    return own.drop_duplicates("image_id", keep="last")


@dataclass(frozen=True)
class AllTies:
    """Ties by the roles they connect; `seed` and `held_out` ones start from the other image."""

    pool: Ties
    from_seed: Ties
    from_held_out: Ties


def _all_ties(rows: pd.DataFrame, neighbours: Table, params: DedupParams) -> AllTies:
    near = params.near.at_least if params.near else None
    held = params.held_out.at_least if params.held_out and params.near else None
    table = neighbours.read(["role_a", "image_a", "role_b", "image_b", "similarity"]).to_pandas()

    def ties(left: str, right: str, at_least: float | None) -> Ties:
        parts = [no_ties()]
        if params.perceptual:
            mine = _hashes(_images_of(rows, left))
            theirs = mine if left == right else _hashes(_images_of(rows, right))
            parts.append(perceptual_ties(mine, theirs, params.perceptual.max_distance))
        if at_least is not None:
            own = table[(table["role_a"] == left) & (table["role_b"] == right)]
            a, b = (own[c].to_numpy().astype("S32") for c in ("image_a", "image_b"))
            parts.append(near_ties(a, b, own["similarity"].to_numpy(np.float32), at_least))
        return join_ties(parts)

    return AllTies(
        pool=ties("pool", "pool", near),
        from_seed=ties("seed", "pool", near),
        from_held_out=join_ties([ties("held_out", "pool", held), ties("held_out", "seed", held)])
        if params.held_out
        else no_ties(),
    )


def _hashes(images: pd.DataFrame) -> tuple[Ids, npt.NDArray[np.uint8]]:
    own = images[images["phash"].notna()]
    raw = b"".join(own["phash"])
    return own["image_id"].to_numpy().astype("S32"), np.frombuffer(raw, np.uint8).reshape(-1, 32)


def _copies(rows: pd.DataFrame, ties: AllTies, params: DedupParams) -> pd.DataFrame:
    """Return `rows` with the columns of the table `copies`."""
    rows = _within_pool(rows, ties.pool)
    rows = _name_methods(rows, params.exact)
    rows = _contaminated(rows, ties, params)
    return _seed_copies(rows, ties)


def _within_pool(rows: pd.DataFrame, ties: Ties) -> pd.DataFrame:
    """Add component, representative and strongest tie; an image of no component is its own."""
    pool = _images_of(rows, "pool")
    images = pool["image_id"].to_numpy().astype("S32")
    found = find_components(
        images, ties, pool["pixels"].to_numpy(), pool["caption_length"].to_numpy(np.int64)
    )
    tie = strongest(both_ways(ties), images)
    tied, all_ties = tie >= 0, both_ways(ties)
    side = pd.DataFrame(
        {
            "role": "pool",
            "image_id": pool["image_id"].to_numpy(),
            "component_id": found.component_id.astype("U32"),
            "representative_id": found.representative_id.astype("U32"),
            "similarity": np.where(tied, _pick(all_ties.strength, tie), np.nan),
            "evidence_id": np.where(tied, _pick(all_ties.right.astype("U32"), tie), None),
            "tie": np.where(tied, _pick(np.array(METHODS)[all_ties.method], tie), None),
        }
    ).astype({"component_id": object, "representative_id": object})
    rows = rows.merge(side, how="left", on=["role", "image_id"])
    for column in ("component_id", "representative_id"):
        rows[column] = rows[column].fillna(rows["image_id"])
    return rows


def _pick(values: npt.NDArray[Any], index: npt.NDArray[np.int64]) -> Any:
    """Return values[index], anything where index is −1."""
    return values[index] if len(values) else np.full(len(index), None, dtype=object)


def _name_methods(rows: pd.DataFrame, exact: bool) -> pd.DataFrame:
    """Add the row that stands for each component, and how every other row is tied to it.

    Of the rows with the same bytes, in the pool or in one other source, the one with the longest
    caption stands for the picture, then the one with the smallest pair_id.
    """
    rows["scope"] = np.where(rows["role"] == "pool", "pool", rows["source"])
    ranked = rows.sort_values(["caption_length", "pair_id"], ascending=[False, True])
    best = ranked.drop_duplicates(["scope", "image_id"])[["scope", "image_id", "pair_id"]]
    best = best.rename(
        columns={"image_id": "representative_id", "pair_id": "representative_pair_id"}
    )
    rows = rows.merge(best, how="left", on=["scope", "representative_id"])
    own = best.rename(columns={"representative_id": "image_id", "representative_pair_id": "best"})
    rows = rows.merge(own, how="left", on=["scope", "image_id"])
    repeats = rows["best"] != rows["pair_id"]
    stands = rows["representative_id"] == rows["image_id"]
    rows["method"] = np.where(
        repeats & exact, "exact", np.where(stands, "representative", rows["tie"].fillna("near"))
    )
    rows.loc[repeats & exact, "similarity"] = 1.0
    rows.loc[repeats & exact, "evidence_id"] = rows["image_id"]
    return rows


def _contaminated(rows: pd.DataFrame, ties: AllTies, params: DedupParams) -> pd.DataFrame:
    """Add which held-out picture a row, or its component, copies."""
    names = ["contaminated_by", "contamination_method", "contamination_similarity"]
    held = rows[rows["role"] == "held_out"].sort_values(["image_id", "source"])
    if not params.held_out or held.empty:
        return rows.assign(**dict.fromkeys([*names, "contaminated_set"]))
    sets = held.drop_duplicates("image_id").set_index("image_id")["source"]
    touched = _best_ties(ties.from_held_out, sets.index.to_numpy())
    rows = rows.merge(touched.set_axis(["image_id", *names], axis=1), how="left", on="image_id")
    if params.held_out.whole_component:
        order = ["contamination_similarity", "contaminated_by"]
        found = rows[rows["contaminated_by"].notna() & (rows["role"] == "pool")]
        found = found.sort_values(order, ascending=[False, True]).drop_duplicates("component_id")
        spread = rows[["role", "component_id"]].merge(
            found[["role", "component_id", *names]], how="left", on=["role", "component_id"]
        )
        own = rows["contaminated_by"].notna()
        for name in names:
            rows[name] = rows[name].where(own, spread[name])
    rows.loc[rows["role"] == "held_out", names] = None
    rows["contaminated_set"] = rows["contaminated_by"].map(sets)
    return rows


def _best_ties(ties: Ties, exact_ids: npt.NDArray[np.object_]) -> pd.DataFrame:
    """Return for each image on the right its strongest tie from the left; its own bytes come first."""
    tied = pd.DataFrame(
        {
            "image_id": ties.right.astype("U32"),
            "by": ties.left.astype("U32"),
            "method": np.array(METHODS)[ties.method] if len(ties.method) else [],
            "similarity": ties.strength,
        }
    ).astype({"image_id": object, "by": object, "method": object})
    exact = pd.DataFrame({"image_id": exact_ids, "by": exact_ids})
    exact = exact.assign(method="exact", similarity=np.float32(1.0), first=0)
    both = pd.concat([exact, tied.assign(first=1)], ignore_index=True)
    both = both.sort_values(["first", "similarity", "by"], ascending=[True, False, True])
    return both.drop_duplicates("image_id")[["image_id", "by", "method", "similarity"]]


def _seed_copies(rows: pd.DataFrame, ties: AllTies) -> pd.DataFrame:
    """Add which seed picture a pool row copies."""
    seeds = np.sort(rows.loc[rows["role"] == "seed", "image_id"].unique())
    best = _best_ties(ties.from_seed, seeds).rename(columns={"by": "copy_of_seed"})
    rows = rows.merge(best[["image_id", "copy_of_seed"]], how="left", on="image_id")
    rows.loc[rows["role"] != "pool", "copy_of_seed"] = None
    return rows


def _counts(table: pd.DataFrame, ties: AllTies) -> dict[str, object]:
    """Return the books: pool = kept + copies + contaminated, and how components are sized."""
    pool = table[table["role"] == "pool"]
    contaminated = pool["contaminated_by"].notna()
    copies = (pool["method"] != "representative") & ~contaminated
    sizes = pool.drop_duplicates("image_id")["component_id"].value_counts()
    return {
        "pool": len(pool),
        "kept": int((~contaminated & ~copies).sum()),
        "contaminated": int(contaminated.sum()),
        "copies": {k: int(v) for k, v in pool.loc[copies, "method"].value_counts().items()},
        "contaminated_seeds": int(
            table.loc[table["role"] == "seed", "contaminated_by"].notna().sum()
        ),
        "ties": {m: int((ties.pool.method == n).sum()) for n, m in enumerate(METHODS)},
        "components": len(sizes),
        "largest_components": [int(s) for s in sizes.head(10)],
    }
