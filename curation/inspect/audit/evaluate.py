"""Evaluates an audit: which injected copies are found, and which other images the originals match."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse.csgraph import connected_components

from curation.algorithms.arrays.vectors import Bools, Ids
from curation.algorithms.knn.hamming import range_search
from curation.algorithms.knn.hash_parts import BITS
from curation.inspect.audit.copies import Detections, InjectedCopies, StoredOriginals
from curation.inspect.audit.edits import EDIT_NAMES, EDITS, STRENGTHS
from curation.inspect.audit.pool import Pool, Sample, gather_by_id
from curation.inspect.audit.verify_pairs import is_compared, verify_pairs
from curation.recipe import Recipe

LEVELS = ("perceptual", "near")


def levels_of(recipe: Recipe) -> list[str]:
    """Return the levels that a recipe configures."""
    return [level for level in LEVELS if getattr(recipe.dedup, level) is not None]


def copies_table(
    sample: Sample, injected: InjectedCopies, detections: Detections, recipe: Recipe
) -> pd.DataFrame:
    """Return one row per injected copy: its original, its edit, how near it is, and what finds it.

    Columns: image_id, edit, strength, refused, distance (bits), similarity, rank (from 1), `agrees`
    (with its original; missing where they were not compared), `allowed_<level>` (verify compares a
    pair of this level, and it agrees), `by_<level>` (the level finds the copy), and `found` (any level
    does). `unverified_<level>` and `unverified` say the same as the last two for a recipe that does not
    verify. Values that do not exist are missing.
    """
    distance, rank = pd.Series(detections.distance), pd.Series(detections.rank)
    rows = pd.DataFrame(
        {
            "image_id": sample.ids[injected.original].astype("U32").astype(object),
            "edit": [EDIT_NAMES[n] for n in injected.edit],
            "strength": [EDITS[EDIT_NAMES[n]].strength for n in injected.edit],
            "refused": pd.Series(injected.refused, dtype=object),
            "distance": distance.mask(distance < 0).astype("Int16"),
            "similarity": pd.Series(detections.similarity, dtype="float32"),
            "rank": rank.mask(rank == 0).astype("Int32"),
        }
    )
    max_distance, min_similarity = _thresholds(recipe)
    near = (detections.rank > 0) & (detections.similarity >= min_similarity)
    rows["unverified_perceptual"] = _is_within(detections.distance, max_distance)
    rows["unverified_near"] = near
    rows["unverified"] = rows["unverified_perceptual"] | rows["unverified_near"]
    rows = rows.assign(**_verification(rows, injected, detections, recipe))
    for level in LEVELS:
        rows[f"by_{level}"] = rows[f"unverified_{level}"] & rows[f"allowed_{level}"]
    rows["found"] = rows["by_perceptual"] | rows["by_near"]
    return rows


def _thresholds(recipe: Recipe) -> tuple[int, np.float32]:
    """Return the largest distance and the lowest similarity that match, by the recipe."""
    perceptual, near = recipe.dedup.perceptual, recipe.dedup.near
    max_distance = perceptual.max_distance if perceptual else -1
    return max_distance, np.float32(near.at_least if near else np.inf)


def _is_within(distance: npt.NDArray[np.int64], max_distance: int) -> Bools:
    """Return which distances exist (are not negative) and are at most `max_distance`."""
    return (distance >= 0) & (distance <= max_distance)


def _verification(
    rows: pd.DataFrame, injected: InjectedCopies, detections: Detections, recipe: Recipe
) -> dict[str, Any]:
    """Return the columns `agrees` and `allowed_<level>` of `copies_table`."""
    verify = recipe.dedup.verify
    if verify is None or injected.agrees is None:
        unknown = pd.Series(pd.NA, index=rows.index, dtype="boolean")
        all_pass = np.ones(len(rows), bool)
        return {"agrees": unknown, "allowed_perceptual": all_pass, "allowed_near": all_pass}
    agrees = pd.Series(injected.agrees, dtype="boolean").mask(rows["refused"].notna())
    return {
        "agrees": agrees,
        "allowed_perceptual": injected.agrees,
        "allowed_near": injected.agrees & (detections.rank <= verify.k),
    }


def without_verification(copies: pd.DataFrame) -> pd.DataFrame:
    """Return the table of copies for the same recipe without `dedup.verify`."""
    columns = {f"by_{level}": copies[f"unverified_{level}"] for level in LEVELS}
    return copies.assign(found=copies["unverified"], **columns)


def recall_by(copies: pd.DataFrame, column: str, levels: Iterable[str]) -> list[dict[str, Any]]:
    """Return the recall of the stored copies for each value of `column` (`edit` or `strength`)."""
    stored = copies[copies["refused"].isna()]
    values = STRENGTHS if column == "strength" else EDIT_NAMES
    return [{column: name} | recall_of(stored[stored[column] == name], levels) for name in values]


def recall_of(copies: pd.DataFrame, levels: Iterable[str]) -> dict[str, Any]:
    """Return the number of copies, and which share of them each level, and any level, finds."""
    columns = {level: f"by_{level}" for level in levels} | {"any": "found"}
    return {"copies": len(copies)} | {
        name: float(copies[column].mean()) if len(copies) else None
        for name, column in columns.items()
    }


def pairs_table(
    pool: Pool,
    sample: Sample,
    originals: StoredOriginals,
    detections: Detections,
    recipe: Recipe,
) -> pd.DataFrame:
    """Return one row per original and other pool image that is near it, at any threshold.

    Columns: original (its number), image_id, other, distance (bits), similarity, `agrees` (always true
    where the recipe does not verify, always false for a pair that verify does not compare),
    `by_perceptual` and `by_near` (the pair is within the recipe's threshold, whether it agrees or not),
    and `same_component`: equal pixels or hashes join the two, directly or through other images near
    this original that agree with it.
    """
    by_hash, by_vector = detections.by_hash, detections.by_vector
    hashed = pd.DataFrame({"original": by_hash.query, "other": by_hash.ids})
    near = pd.DataFrame({"original": by_vector.query, "other": by_vector.ids})
    near["similarity"] = by_vector.similarity
    rows = hashed.merge(near, how="outer", on=["original", "other"])
    rows = rows.sort_values(["original", "other"], ignore_index=True)
    rows["similarity"] = rows["similarity"].astype("float32")
    rows["other"] = rows["other"].to_numpy().astype("S32").astype("U32").astype(object)
    rows["agrees"] = _pairs_that_agree(pool, sample, rows, detections, recipe)
    distance, joined = _join_by_hashes(pool, rows, originals, recipe)
    joined |= _have_equal_pixels(pool, rows, sample)
    max_distance, min_similarity = _thresholds(recipe)
    return rows.assign(
        image_id=sample.ids[rows["original"]].astype("U32").astype(object),
        distance=pd.Series(distance).mask(distance < 0).astype("Int16"),
        by_perceptual=_is_within(distance, max_distance),
        by_near=(rows["similarity"] >= min_similarity).to_numpy(),
        same_component=joined,
    )


def _pairs_that_agree(
    pool: Pool, sample: Sample, rows: pd.DataFrame, detections: Detections, recipe: Recipe
) -> Bools:
    """Return which pairs agree, (n,), comparing only those that stage verify compares."""
    verify = recipe.dedup.verify
    if verify is None:
        return np.ones(len(rows), bool)
    agree = is_compared(rows, detections, verify)
    agree[agree] = verify_pairs(pool, sample, rows[agree], verify)
    return agree


def _join_by_hashes(
    pool: Pool, rows: pd.DataFrame, originals: StoredOriginals, recipe: Recipe
) -> tuple[npt.NDArray[np.int64], Bools]:
    """Return the Hamming distance of each pair (−1: no hash), and whether hashes join the two."""
    distance, joined = np.full(len(rows), -1), np.zeros(len(rows), bool)
    perceptual = recipe.dedup.perceptual
    if perceptual is None or rows.empty:
        return distance, joined
    others: Ids = rows["other"].to_numpy().astype("S32")
    hashes = gather_by_id(pool.hashes, pool.fragments, np.unique(others))
    has_hash = np.array([bytes(i) in hashes for i in others])
    original, agree = rows["original"].to_numpy(), rows["agrees"].to_numpy()
    for number in np.unique(original[has_hash]):
        if not originals.hashed[number]:
            continue
        pairs = np.flatnonzero((original == number) & has_hash)
        group = [originals.hashes[number], *(hashes[bytes(others[n])] for n in pairs)]
        bits = _distances(np.stack(group))
        may_join = np.concatenate([[True], agree[pairs]])
        edges = (bits <= perceptual.max_distance) & may_join & may_join[:, None]
        _, component = connected_components(edges, directed=False)
        distance[pairs], joined[pairs] = bits[0, 1:], component[1:] == component[0]
    return distance, joined


def _distances(hashes: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return the Hamming distances between all hashes (n, 32), (n, n)."""
    left, right, distance = range_search(hashes, hashes, BITS)
    distances = np.empty((len(hashes), len(hashes)), np.int64)
    distances[left, right] = distance
    return distances


def _have_equal_pixels(pool: Pool, rows: pd.DataFrame, sample: Sample) -> Bools:
    """Return which pairs have equal stored pixels, (n,)."""
    if not pool.has_pixels or rows.empty:
        return np.zeros(len(rows), bool)
    left, right = sample.ids[rows["original"]], rows["other"].to_numpy().astype("S32")
    pixel_ids = gather_by_id(pool.pixel_ids, pool.fragments, np.union1d(left, right))
    missing = np.bytes_(b"")
    left_pixels, right_pixels = (
        np.array([pixel_ids.get(bytes(i), missing) for i in ids], "S32") for ids in (left, right)
    )
    return np.asarray((left_pixels == right_pixels) & (left_pixels != b""), dtype=bool)


def count_pairs(pairs: pd.DataFrame, sample: Sample, levels: Iterable[str]) -> dict[str, Any]:
    """Return for each level how many other pool images it links to the originals, by the recipe.

    The counts that end in `alone` are of pairs that the other level does not confirm.
    """
    counts = {}
    for level in levels:
        linked = pairs[pairs[f"by_{level}"]]
        per_original = np.bincount(linked["original"], minlength=len(sample))
        alone = linked[~linked["same_component" if level == "near" else "by_near"]]
        counts[level] = {
            "pairs": len(linked),
            "originals_linked": int((per_original > 0).sum()),
            "most_of_one_original": int(per_original.max()),
            "pairs_alone": len(alone),
            "originals_linked_alone": int(alone["original"].nunique()),
        }
    return counts


def is_explained(pairs: pd.DataFrame, level: str) -> Bools:
    """Return which pairs would be in one component whatever the threshold of this level, (n,).

    For `near` these are the pairs that equal pixels or hashes join. For `perceptual` they are the pairs
    that pixels or hashes join at the recipe's own distance, or that near vectors link.
    """
    explained = pairs["same_component"]
    if level == "perceptual":
        explained = explained | pairs["by_near"]
    return np.asarray(explained, dtype=bool)


def pairs_per_original(
    pairs: pd.DataFrame, sample: Sample, levels: Iterable[str]
) -> list[Mapping[str, Any]]:
    """Return for each sampled image how many other images each level links to it."""
    columns: dict[str, Any] = {"image_id": sample.ids.astype("U32").tolist()}
    for level in levels:
        linked = pairs.loc[pairs[f"by_{level}"], "original"]
        columns[level] = np.bincount(linked, minlength=len(sample)).tolist()
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
