"""One arm by itself: what it claims of a few images, with the limits that it states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.ids import from_ids, to_ids
from curation.engine.exchange_runner import InMemory, MemoryTable
from curation.engine.units import StageOutput
from curation.stages.retrieve.balance import apply_arm_limits
from curation.stages.retrieve.claims import Arms, claim_rows, sorted_claims
from curation.stages.retrieve.images import IMAGES
from curation.stages.retrieve.limits import ClaimedParts, apply_limit
from curation.stages.retrieve.params import RetrieveStep
from curation.stages.retrieve.single_matches import OPEN, settle_rest
from curation.stages.retrieve.strategies.arm import Arm
from curation.stages.retrieve.strategies.evidence import (
    ArmCounts,
    EligibleImages,
    Evidence,
    Matches,
)


@dataclass(frozen=True)
class Given:
    """Images of the pool and of a seed set, with matches and levels of clusters."""

    pool: EligibleImages
    seeds: EligibleImages
    seed_rows: int
    matches: Matches
    parents: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """Claims of an arm; arrays have one element for each claim."""

    images: Any
    seed_images: list[Any]
    rank: list[Any]
    cluster_id: list[Any]
    requested: int
    available: int
    retrieved: int
    unique: int
    dropped: int = field(default=0)


def claim(strategy: ModuleType, arm: Arm, given: Given, seed: int) -> Outcome:
    """Plan an arm, let it claim, and give its places away, in one part."""
    plan = strategy.plan(arm, _counts(given), seed)
    evidence = Evidence(
        parents=given.parents,
        pool_images=given.pool,
        seed_images=given.seeds,
        all_matches=given.matches,
        matches_once=_single(arm, given.matches),
    )
    claims = strategy.claim(arm, evidence, plan, seed)
    arms = Arms((arm.model_dump(),), ("s",), (0,))
    part = collect(sorted_claims, claims=claim_rows(0, claims), arms=arms)
    parts = ClaimedParts([images_of([given.pool, given.seeds])], [part], arms)
    before, after = apply_arm_limits(
        parts,
        RetrieveStep(arms=[arm], seed=seed),
        lambda parts, limit: apply_limit(parts, limit, InMemory(), 10**9),
    )
    rows = after.claims[0].read()
    seeds = rows.column("seed_image_id").to_pylist()
    return Outcome(
        to_ids(rows.column("image_id")),
        [None if s is None else s.encode() for s in seeds],
        rows.column("rank").to_pylist(),
        rows.column("cluster_id").to_pylist(),
        plan.requested,
        claims.available,
        before["claims"][arm.name],
        before["unique"][arm.name],
        before["claims"][arm.name] - len(rows),
    )


def _counts(given: Given) -> ArmCounts:
    largest = max(given.pool.cluster_id.max(initial=-1), given.seeds.cluster_id.max(initial=-1))
    clusters = len(given.parents[0]) if given.parents else largest + 1

    def by_cluster(images: EligibleImages) -> Any:
        return np.bincount(images.cluster_id[images.cluster_id >= 0], minlength=clusters)

    return ArmCounts(
        len(given.pool.images),
        given.seed_rows,
        len(given.seeds.images),
        given.parents,
        by_cluster(given.pool),
        by_cluster(given.seeds),
    )


def _single(arm: Arm, matches: Matches) -> Matches | None:
    k = arm.matches_each_image_once()
    if k is None:
        return None
    matches = matches.take(matches.rank <= arm.neighbours_needed())
    count = len(matches)
    columns = [from_ids(matches.seed_images), from_ids(matches.images)]
    columns += [pa.array(matches.similarity), pa.array(matches.rank)]
    columns += [pa.array([False] * count, pa.bool_()), pa.array([k] * count, pa.int32())]
    columns += [pa.array([False] * count, pa.bool_())]
    rows = collect(settle_rest, rows=pa.table(columns, schema=OPEN)).read()
    return Matches(
        to_ids(rows.column("seed_image_id")),
        to_ids(rows.column("image_id")),
        rows.column("similarity").to_numpy(),
        rows.column("rank").to_numpy(),
    )


def images_of(groups: Sequence[EligibleImages], **columns: Any) -> MemoryTable:
    """IMAGES of some images, each represented by a row in fragment 0."""
    ids = np.unique(np.concatenate([group.images for group in groups]))
    count = len(ids)
    values = {
        "image_id": from_ids(ids),
        "set": [-1] * count,
        "cluster_id": [0] * count,
        "similarity": [0.0] * count,
        "pair_id": from_ids(ids),
        "fragment": [0] * count,
        "balance_cluster": [None] * count,
        "weight": [1.0] * count,
        "host": [None] * count,
    }
    arrays = [pa.array((values | columns)[f.name], f.type) for f in IMAGES]
    return MemoryTable(pa.table(arrays, schema=IMAGES), {})


def collect(function: Callable[..., StageOutput], **arguments: Any) -> MemoryTable:
    """The rows that a function of a part yields, and its measurements."""
    (part,) = InMemory().compute("", function, [arguments])
    return part
