"""Balance over all arms: caps by seed set, cluster and host, and one target for the whole dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.kmeans.balance import even_shares
from curation.stages.retrieve.params import BalanceParams

if TYPE_CHECKING:
    pass

Bools = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]


def apply_balance(
    claims: pd.DataFrame, images: pd.DataFrame, params: BalanceParams, seed: int
) -> Bools:
    """Return which claims stay, (claims,).

    Caps are applied one after the other: seed set (which takes claims of that set alone), cluster,
    host, then the target. Where one binds, images stay in this order: those of arms with priority,
    then a seeded draw in which an image's chance grows with the weight of its source.

    Args:
        claims: columns arm, seed_set, image_id.
        images: a row a claimed image, indexed by image_id: columns source, cluster_id, host.
        params: caps, weights, target and priority.
        seed: of the recipe.
    """
    order = _order(claims, images, params, seed)
    stays = np.ones(len(claims), dtype=bool)
    place: Positions = order.reindex(claims["image_id"]).to_numpy().astype(np.int64)
    for name, cap in sorted(params.per_seed_set.items()):
        own = (claims["seed_set"] == name).to_numpy()
        stays[own] &= _first_of_group(pd.Series(0, index=claims.index)[own], place[own], cap)
    # From here on an image stays or goes with all its claims.
    for column, cap in _caps(params):
        groups = images[column].reindex(claims["image_id"])
        groups.index = claims.index
        known = stays & groups.notna().to_numpy()
        stays[known] &= _first_of_group(groups[known], place[known], cap)
    if params.target is not None:
        stays &= _within_target(claims, stays, place, params, seed)
    return stays


def _caps(params: BalanceParams) -> Iterator[tuple[str, int]]:
    for column, cap in (("cluster_id", params.per_cluster), ("host", params.per_host)):
        if cap is not None:
            yield column, cap


def _order(
    claims: pd.DataFrame, images: pd.DataFrame, params: BalanceParams, seed: int
) -> pd.Series[int]:
    """Return the place of each image in the order in which images stay."""
    best = _priority(claims, params).groupby(claims["image_id"]).min().reindex(images.index)
    names = images.index.to_numpy().astype("S32")
    chance = (seeded_keys(names, seed, "balance").astype(np.float64) + 1) / 2.0**64
    weight = images["source"].map(params.weights).astype(float).fillna(1.0).to_numpy()
    # Sampling without replacement by weight (Efraimidis and Spirakis 2006).
    drawn = -np.log(chance) / weight
    order = np.lexsort((names, drawn, best.to_numpy()))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return pd.Series(place, index=images.index)


def _priority(claims: pd.DataFrame, params: BalanceParams) -> pd.Series[int]:
    """Return the place of each claim's arm in `priority`; all others share the last."""
    first = {arm: place for place, arm in enumerate(params.priority)}
    return claims["arm"].map(first).fillna(len(first)).astype(int)


def _first_of_group(groups: pd.Series[Any], place: Positions, cap: int) -> Bools:
    """Return which claims are on one of the `cap` first images of their group."""
    frame = pd.DataFrame({"group": groups.to_numpy(), "place": place})
    rank = frame.groupby("group")["place"].rank(method="dense")
    return np.asarray(rank <= cap, dtype=bool)


def _within_target(
    claims: pd.DataFrame,
    stays: Bools,
    place: Positions,
    params: BalanceParams,
    seed: int,
) -> Bools:
    """Return which claims are on images within the target, shared out evenly over arms.

    An image counts for the first of its arms, by priority and then by name, so that arms that claim
    the same images do not take from the target twice.
    """
    frame = pd.DataFrame({"arm": claims["arm"].to_numpy(), "place": place})
    frame["first"] = _priority(claims, params).to_numpy()
    own = frame[stays].sort_values(["place", "first", "arm"]).drop_duplicates("place")
    sizes = own["arm"].value_counts().sort_index()
    names = np.array([f"{number:032x}" for number in range(len(sizes))], dtype="S32")
    keys = seeded_keys(names, seed, "balance", "target")
    shares = even_shares(sizes.to_numpy().astype(np.int64), int(params.target or 0), keys)
    share = pd.Series(shares, index=sizes.index)
    rank = own.groupby("arm")["place"].rank(method="first")
    kept = own.loc[(rank <= own["arm"].map(share)).to_numpy(), "place"]
    return np.asarray(np.isin(place, kept.to_numpy()), dtype=bool)


def describe_target(target: Mapping[str, int]) -> str:
    """Say how far the target of `balance` was met; `target` is of the measurements of `claims`."""
    said = f"{target['final']:,} of {target['requested']:,} images asked for"
    return said + (f", {target['shortfall']:,} short" if target["shortfall"] else "")
