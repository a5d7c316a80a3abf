"""Limits over the claims of all arms: those of arms, caps per seed set, cluster and host, and a target.

An image that more than one arm claims counts once, except for the cap of an arm, which counts claims.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.kmeans.balance import even_shares
from curation.stages.retrieve.limits import ClaimedParts, Limit
from curation.stages.retrieve.params import RetrieveStep
from curation.stages.retrieve.places import (
    CapOfGroups,
    CapOfSeedSet,
    CapsOfArms,
    GroupsOfArms,
    SharesOfArms,
)

Apply = Callable[[ClaimedParts, Limit], ClaimedParts]


def apply_arm_limits(
    claimed: ClaimedParts, params: RetrieveStep, apply: Apply
) -> tuple[dict[str, dict[str, int]], ClaimedParts]:
    """Give the places away for which claims of one arm compete, and then apply the caps of arms.

    Args:
        claimed: all claims.
        params: of the stage.
        apply: applies one limit.

    Returns:
        `claims` and `unique` by arm (see `claim_counts`) before caps, and the claims that are left.
    """
    if claimed.count("competing"):
        claimed = apply(claimed, GroupsOfArms())
    retrieved = {name: claimed.count_by(name) for name in ("claims", "unique")}
    caps = tuple(
        (number, cap)
        for number, arm in enumerate(params.arms)
        if (cap := arm.largest_claims()) is not None and retrieved["claims"][arm.name] > cap
    )
    if caps:
        names = tuple(arm.name for arm in params.arms)
        claimed = apply(claimed, CapsOfArms(caps, names, params.seed))
    return retrieved, claimed


def apply_balance(claimed: ClaimedParts, params: RetrieveStep, apply: Apply) -> ClaimedParts:
    """Apply caps one after another: per seed set, cluster and host; then the target.

    Args:
        claimed: claims within the limits of their arms.
        params: of the stage.
        apply: applies one limit.
    """
    balance, seed = params.balance, params.seed
    for name, cap in sorted(balance.per_seed_set.items()):
        if claimed.count_by("set_images").get(name, 0) > cap:
            of_set = tuple(n for n, arm in enumerate(params.arms) if arm.seeds == name)
            claimed = apply(claimed, CapOfSeedSet(name, of_set, cap, seed))
    caps = (("balance_cluster", balance.per_cluster), ("host", balance.per_host))
    for column, largest in caps:
        if largest is not None:
            claimed = apply(claimed, CapOfGroups(column, largest, seed))
    if balance.target is not None and claimed.count("images") > balance.target:
        shares = shares_of_arms(claimed.count_by("first"), balance.target, seed)
        in_order = tuple(shares.get(arm.name, 0) for arm in params.arms)
        claimed = apply(claimed, SharesOfArms(claimed.arms, in_order, seed))
    return claimed


def shares_of_arms(first: Mapping[str, int], target: int, seed: int) -> dict[str, int]:
    """Share a target out over the arms, as evenly as their images allow.

    Args:
        first: images that count for each arm, by its name, in any order.
        target: number of images.
        seed: of the recipe.
    """
    names = sorted(name for name, images in first.items() if images)
    ids = np.array([f"{number:032x}" for number in range(len(names))], dtype="S32")
    sizes = np.array([first[name] for name in names], np.int64)
    shares = even_shares(sizes, target, seeded_keys(ids, seed, "balance", "target"))
    return dict(zip(names, shares.tolist(), strict=True))


def describe_target(target: Mapping[str, int]) -> str:
    """Describe how far the target of `balance` was reached.

    Args:
        target: the measurement `target` of the table `claims`.
    """
    text = f"{target['final']:,} of {target['requested']:,} images wanted"
    return text + (f", {target['shortfall']:,} short" if target["shortfall"] else "")
