"""What was found of the planted copies, and which other pool pictures the originals are tied to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse.csgraph import connected_components

from curation.algorithms.arrays.vectors import Bools, Ids
from curation.algorithms.knn.hamming import BITS, range_search
from curation.inspect.audit.detect import Found, Stored
from curation.inspect.audit.edits import EDITS, STRENGTHS
from curation.inspect.audit.inject import NAMES, Planted
from curation.inspect.audit.pool import Pool, Sample, gather
from curation.inspect.audit.verify_pairs import agreeing, looked_at
from curation.recipe import Recipe

LEVELS = ("perceptual", "near")


def levels_of(recipe: Recipe) -> list[str]:
    """Return the levels that a recipe configures."""
    return [level for level in LEVELS if getattr(recipe.dedup, level) is not None]


def copies_table(sample: Sample, planted: Planted, found: Found, recipe: Recipe) -> pd.DataFrame:
    """Return a row a planted copy: its original, its edit, how near it is, and what finds it.

    Columns: image_id, edit, strength, refused, distance (bits), similarity, rank (from 1), `agrees`
    (with its original; missing where nobody looked), `allowed_<level>` (verify looks at a pair that
    the level ties, and it agrees), a column `by_<level>` for each level, and `found`; the last two also
    as if nothing were verified: `unverified_<level>` and `unverified`. What is not there is missing.
    """
    distance, rank = pd.Series(found.distance), pd.Series(found.rank)
    rows = pd.DataFrame(
        {
            "image_id": sample.ids[planted.original].astype("U32").astype(object),
            "edit": [NAMES[n] for n in planted.edit],
            "strength": [EDITS[NAMES[n]].strength for n in planted.edit],
            "refused": pd.Series(planted.refused, dtype=object),
            "distance": distance.mask(distance < 0).astype("Int16"),
            "similarity": pd.Series(found.similarity, dtype="float32"),
            "rank": rank.mask(rank == 0).astype("Int32"),
        }
    )
    perceptual, near = recipe.dedup.perceptual, recipe.dedup.near
    within = perceptual.max_distance if perceptual else -1
    at_least = np.float32(near.at_least if near else np.inf)
    rows["unverified_perceptual"] = (found.distance >= 0) & (found.distance <= within)
    rows["unverified_near"] = (found.rank > 0) & (found.similarity >= at_least)
    rows["unverified"] = rows["unverified_perceptual"] | rows["unverified_near"]
    verify, agree, looked = recipe.dedup.verify, planted.agrees, np.ones(len(rows), bool)
    if verify is None or agree is None:
        agree = looked
        rows["agrees"] = pd.Series(pd.NA, index=rows.index, dtype="boolean")
    else:
        looked = found.rank <= verify.k
        rows["agrees"] = pd.Series(agree, dtype="boolean").mask(rows["refused"].notna())
    rows["allowed_perceptual"], rows["allowed_near"] = agree, agree & looked
    for level in LEVELS:
        rows[f"by_{level}"] = rows[f"unverified_{level}"] & rows[f"allowed_{level}"]
    rows["found"] = rows["by_perceptual"] | rows["by_near"]
    return rows


def unverified(copies: pd.DataFrame) -> pd.DataFrame:
    """Return the same copies as the levels alone find them."""
    columns = {f"by_{level}": copies[f"unverified_{level}"] for level in LEVELS}
    return copies.assign(found=copies["unverified"], **columns)


def recall(copies: pd.DataFrame, column: str, levels: Iterable[str]) -> list[dict[str, Any]]:
    """Return for each value of `column` its copies, and which share each level, and any, finds."""
    planted = copies[copies["refused"].isna()]
    order = STRENGTHS if column == "strength" else NAMES
    return [{column: name} | shares(planted[planted[column] == name], levels) for name in order]


def shares(copies: pd.DataFrame, levels: Iterable[str]) -> dict[str, Any]:
    """Return how many copies there are, and which share each level, and any, finds."""
    columns = {level: f"by_{level}" for level in levels} | {"any": "found"}
    return {"copies": len(copies)} | {
        name: float(copies[column].mean()) if len(copies) else None
        for name, column in columns.items()
    }


def pairs_table(
    pool: Pool, sample: Sample, stored: Stored, found: Found, recipe: Recipe
) -> pd.DataFrame:
    """Return a row an original and another pool picture that is near it, at any threshold.

    Columns: original (its number), image_id, other, distance (bits), similarity, `agrees` (always where
    the recipe does not verify, never for a pair that verify does not look at), `by_perceptual` and
    `by_near` (tied as the recipe has it, whether they agree or not), and `same_component`: equal pixels
    or hashes tie the two, if need be over other pictures near this original that agree with it.
    """
    hashed = pd.DataFrame({"original": found.by_hash.query, "other": found.by_hash.ids})
    near = pd.DataFrame({"original": found.by_vector.query, "other": found.by_vector.ids})
    near["similarity"] = found.by_vector.similarity
    rows = hashed.merge(near, how="outer", on=["original", "other"])
    rows = rows.sort_values(["original", "other"], ignore_index=True)
    rows["similarity"] = rows["similarity"].astype("float32")
    rows["other"] = rows["other"].to_numpy().astype("S32").astype("U32").astype(object)
    rows["agrees"] = _agreeing(pool, sample, rows, found, recipe)
    distance, together = _by_hashes(pool, rows, stored, recipe)
    together |= _by_pixels(pool, rows, sample)
    params = recipe.dedup
    within = params.perceptual.max_distance if params.perceptual else -1
    at_least = np.float32(params.near.at_least if params.near else np.inf)
    return rows.assign(
        image_id=sample.ids[rows["original"]].astype("U32").astype(object),
        distance=pd.Series(distance).mask(distance < 0).astype("Int16"),
        by_perceptual=(distance >= 0) & (distance <= within),
        by_near=(rows["similarity"] >= at_least).to_numpy(),
        same_component=together,
    )


def _agreeing(
    pool: Pool, sample: Sample, rows: pd.DataFrame, found: Found, recipe: Recipe
) -> Bools:
    """Return which pairs agree, comparing no more of them than stage verify does."""
    verify = recipe.dedup.verify
    if verify is None:
        return np.ones(len(rows), bool)
    agree = looked_at(rows, found, verify)
    agree[agree] = agreeing(pool, sample, rows[agree], verify)
    return agree


def _by_hashes(
    pool: Pool, rows: pd.DataFrame, stored: Stored, recipe: Recipe
) -> tuple[npt.NDArray[np.int64], Bools]:
    """Return for each pair its Hamming distance (−1: no hash), and whether hashes join the two."""
    distance, together = np.full(len(rows), -1), np.zeros(len(rows), bool)
    perceptual = recipe.dedup.perceptual
    if perceptual is None or rows.empty:
        return distance, together
    others: Ids = rows["other"].to_numpy().astype("S32")
    hashes = gather(pool.hashes, pool.fragments, np.unique(others))
    known = np.array([bytes(i) in hashes for i in others])
    numbers, agree = rows["original"].to_numpy(), rows["agrees"].to_numpy()
    for number in np.unique(numbers[known]):
        own = np.flatnonzero((numbers == number) & known)
        if not stored.hashed[number]:
            continue
        group = np.stack([stored.hashes[number], *(hashes[bytes(others[n])] for n in own)])
        left, right, between = range_search(group, group, BITS)
        bits = np.empty((len(group), len(group)), np.int64)
        bits[left, right] = between
        counts = np.concatenate([[True], agree[own]])
        ties = (bits <= perceptual.max_distance) & counts & counts[:, None]
        _, label = connected_components(ties, directed=False)
        distance[own], together[own] = bits[0, 1:], label[1:] == label[0]
    return distance, together


def _by_pixels(pool: Pool, rows: pd.DataFrame, sample: Sample) -> Bools:
    """Return which pairs are stored alike to the last bit."""
    if not pool.has_pixels or rows.empty:
        return np.zeros(len(rows), bool)
    left, right = sample.ids[rows["original"]], rows["other"].to_numpy().astype("S32")
    names = gather(pool.pixel_ids, pool.fragments, np.union1d(left, right))
    nothing = np.bytes_(b"")
    known = [[names.get(bytes(i), nothing) for i in side] for side in (left, right)]
    a, b = (np.array(side, "S32") for side in known)
    return np.asarray((a == b) & (a != b""), dtype=bool)


def ties_of(pairs: pd.DataFrame, sample: Sample, levels: Iterable[str]) -> dict[str, Any]:
    """Return for each level how many other pool pictures the originals are tied to, as the recipe has
    it; `alone` are ties that the other level does not confirm."""
    told = {}
    for level in levels:
        tied = pairs[pairs[f"by_{level}"]]
        counts = np.bincount(tied["original"], minlength=len(sample))
        alone = tied[~tied["same_component" if level == "near" else "by_near"]]
        told[level] = {
            "ties": len(tied),
            "originals_tied": int((counts > 0).sum()),
            "most_of_one_original": int(counts.max()),
            "ties_alone": len(alone),
            "originals_tied_alone": int(alone["original"].nunique()),
        }
    return told


def explained(pairs: pd.DataFrame, level: str) -> Bools:
    """Return which pairs would be in one component without another threshold of this level.

    For near these are pairs that equal pixels or hashes join; for perceptual those that they join at
    the recipe's own distance, or that near vectors tie.
    """
    known = pairs["same_component"]
    if level == "perceptual":
        known = known | pairs["by_near"]
    return np.asarray(known, dtype=bool)


def by_original(
    pairs: pd.DataFrame, sample: Sample, levels: Iterable[str]
) -> list[Mapping[str, Any]]:
    """Return for each sampled image its ties to others, a count a level."""
    rows: dict[str, Any] = {"image_id": sample.ids.astype("U32").tolist()}
    for level in levels:
        tied = pairs.loc[pairs[f"by_{level}"], "original"]
        rows[level] = np.bincount(tied, minlength=len(sample)).tolist()
    return [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
