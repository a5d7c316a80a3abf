"""Balance over the claims of all arms: caps per seed set, cluster and host, and a target.

An image that more than one arm claims counts once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.kmeans.balance import even_shares
from curation.stages.retrieve.params import BalanceParams

Bools = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]


def apply_balance(
    claims: pd.DataFrame, images: pd.DataFrame, params: BalanceParams, seed: int
) -> Bools:
    """Return which claims are kept, (claims,).

    Caps are applied one after another: per seed set (to the claims of that set alone), cluster and
    host, then the target. A cap keeps images in one order: first those of arms with priority, then
    by a seeded draw without replacement, in which an image's chance grows with the weight of its
    source.

    Args:
        claims: columns arm, seed_set and image_id.
        images: one row per claimed image, indexed by image_id: columns source, cluster_id and host.
        params: caps, weights, target and priority.
        seed: of the recipe.
    """
    order = _order(claims, images, params, seed)
    keep = np.ones(len(claims), dtype=bool)
    position: Positions = order.reindex(claims["image_id"]).to_numpy().astype(np.int64)
    for name, cap in sorted(params.per_seed_set.items()):
        of_set = (claims["seed_set"] == name).to_numpy()
        one_group = pd.Series(0, index=claims.index)[of_set]
        keep[of_set] &= _first_of_group(one_group, position[of_set], cap)
    # From here on all claims on an image are kept or dropped together.
    for column, cap in _caps(params):
        groups = images[column].reindex(claims["image_id"])
        groups.index = claims.index
        capped = keep & groups.notna().to_numpy()
        keep[capped] &= _first_of_group(groups[capped], position[capped], cap)
    if params.target is not None:
        keep &= _within_target(claims, keep, position, params, seed)
    return keep


def _caps(params: BalanceParams) -> Iterator[tuple[str, int]]:
    for column, cap in (("cluster_id", params.per_cluster), ("host", params.per_host)):
        if cap is not None:
            yield column, cap


def _order(
    claims: pd.DataFrame, images: pd.DataFrame, params: BalanceParams, seed: int
) -> pd.Series[int]:
    """Return the position of each image in the order in which images are kept, by image_id."""
    priority = _priority(claims, params).groupby(claims["image_id"]).min().reindex(images.index)
    ids = images.index.to_numpy().astype("S32")
    uniform = (seeded_keys(ids, seed, "balance").astype(np.float64) + 1) / 2.0**64
    weight = images["source"].map(params.weights).astype(float).fillna(1.0).to_numpy()
    # Weighted random sampling without replacement (Efraimidis and Spirakis 2006).
    drawn = -np.log(uniform) / weight
    order = np.lexsort((ids, drawn, priority.to_numpy()))
    position = np.empty(len(order), dtype=np.int64)
    position[order] = np.arange(len(order))
    return pd.Series(position, index=images.index)


def _priority(claims: pd.DataFrame, params: BalanceParams) -> pd.Series[int]:
    """Return the place of each claim's arm in `priority`; all other arms share the last place."""
    places = {arm: place for place, arm in enumerate(params.priority)}
    return claims["arm"].map(places).fillna(len(places)).astype(int)


def _first_of_group(groups: pd.Series[Any], position: Positions, cap: int) -> Bools:
    """Return which claims are on one of the first `cap` images of their group, by position."""
    frame = pd.DataFrame({"group": groups.to_numpy(), "position": position})
    rank = frame.groupby("group")["position"].rank(method="dense")
    return np.asarray(rank <= cap, dtype=bool)


def _within_target(
    claims: pd.DataFrame,
    keep: Bools,
    position: Positions,
    params: BalanceParams,
    seed: int,
) -> Bools:
    """Return which claims are on images within the target, which arms share as evenly as possible.

    An image counts for the first of its arms, by priority and then by name, so that two arms that claim
    the same image do not both spend a part of the target on it.
    """
    frame = pd.DataFrame({"arm": claims["arm"].to_numpy(), "position": position})
    frame["priority"] = _priority(claims, params).to_numpy()
    by_image = frame[keep].sort_values(["position", "priority", "arm"]).drop_duplicates("position")
    sizes = by_image["arm"].value_counts().sort_index()
    arm_ids = np.array([f"{number:032x}" for number in range(len(sizes))], dtype="S32")
    keys = seeded_keys(arm_ids, seed, "balance", "target")
    shares = even_shares(sizes.to_numpy().astype(np.int64), int(params.target or 0), keys)
    share = pd.Series(shares, index=sizes.index)
    rank = by_image.groupby("arm")["position"].rank(method="first")
    within = by_image.loc[(rank <= by_image["arm"].map(share)).to_numpy(), "position"]
    return np.asarray(np.isin(position, within.to_numpy()), dtype=bool)


def describe_target(target: Mapping[str, int]) -> str:
    """Describe how far the target of `balance` was reached.

    Args:
        target: the measurement `target` of the table `claims`.
    """
    text = f"{target['final']:,} of {target['requested']:,} images asked for"
    return text + (f", {target['shortfall']:,} short" if target["shortfall"] else "")
