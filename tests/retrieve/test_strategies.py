"""Arms against results computed by hand, with every limit binding."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from curation.algorithms.arrays.seeded_order import seeded_keys, seeded_order
from curation.errors import RecipeError
from curation.stages.retrieve.claims import check_shapes
from curation.stages.retrieve.strategies import as_is, cluster, hierarchical, sample
from curation.stages.retrieve.strategies.evidence import ArmClaims, EligibleImages, Limits, Matches

from .one_arm import Given, Outcome, claim


def name(number: int) -> bytes:
    return f"{number:032x}".encode()


def names(*numbers: int) -> np.ndarray:
    return np.array([name(n) for n in numbers], dtype="S32")


def members(images: Collection[int], clusters: Sequence[int]) -> EligibleImages:
    return EligibleImages(
        names(*images), np.array(clusters, np.int32), np.full(len(images), 0.5, np.float32)
    )


def evidence(**changes: Any) -> Given:
    """Seeds 1, 2, 3 in clusters 0, 0, 1; pool 10..19: six in cluster 0, three in 1, one in 2."""
    # Seed 1 finds 10, 11, 12, 13; seed 2 finds 10, 11, 14, 15; seed 3 finds 12, 10, 16, 17.
    rows = [
        (1, 10, 0.99, 1), (1, 11, 0.90, 2), (1, 12, 0.80, 3), (1, 13, 0.70, 4),
        (2, 10, 0.98, 1), (2, 11, 0.95, 2), (2, 14, 0.60, 3), (2, 15, 0.50, 4),
        (3, 12, 0.85, 1), (3, 10, 0.84, 2), (3, 16, 0.40, 3), (3, 17, 0.30, 4),
    ]  # fmt: skip
    matches = Matches(
        names(*(r[0] for r in rows)),
        names(*(r[1] for r in rows)),
        np.array([r[2] for r in rows], np.float32),
        np.array([r[3] for r in rows], np.int32),
    )
    given: dict[str, Any] = {
        "pool": members(range(10, 20), [0, 0, 0, 0, 0, 0, 1, 1, 1, 2]),
        "seeds": members([1, 2, 3], [0, 0, 1]),
        "seed_rows": 5,
        "matches": matches,
    }
    return Given(**(given | changes))


def arm(module: ModuleType, **options: Any) -> Any:
    strategy = module.__name__.rsplit(".", 1)[1]
    seeds = {} if module is hierarchical else {"seeds": "s"}
    return module.StrategyArm(name="a", strategy=strategy, **seeds, **options)


def pairs(claims: Outcome) -> list[tuple[int, int]]:
    return sorted(
        (int(s, 16), int(i, 16)) for s, i in zip(claims.seed_images, claims.images, strict=True)
    )


def images(claims: Outcome) -> list[int]:
    return sorted(int(i, 16) for i in claims.images)


def test_as_is_takes_the_eligible_seeds() -> None:
    claims = claim(as_is, arm(as_is), evidence(), 0)
    assert images(claims) == [1, 2, 3]
    assert (claims.requested, claims.available, claims.retrieved) == (5, 3, 3)


def test_sample_counts_collisions() -> None:
    claims = claim(sample, arm(sample, k=2), evidence(), 0)
    assert pairs(claims) == [(1, 10), (1, 11), (2, 10), (2, 11), (3, 10), (3, 12)]
    assert (claims.requested, claims.retrieved, claims.unique) == (6, 6, 3)


def test_sample_once_keeps_the_most_similar_claim() -> None:
    claims = claim(sample, arm(sample, k=2, collisions="once"), evidence(), 0)
    # 10 goes to seed 1 (.99 > .98 > .84), 11 to seed 2 (.95 > .90), and only seed 3 claims 12.
    assert pairs(claims) == [(1, 10), (2, 11), (3, 12)]
    assert (claims.requested, claims.available, claims.retrieved) == (6, 6, 3)


def test_sample_reassigns_to_the_next_neighbour() -> None:
    claims = claim(sample, arm(sample, k=2, collisions="reassign"), evidence(), 0)
    # By descending similarity: 1→10, (2→10 taken), 2→11, (1→11 taken), 3→12, (3→10 taken),
    # (1→12 taken), 1→13, 2→14, (2 has two already), 3→16.
    assert pairs(claims) == [(1, 10), (1, 13), (2, 11), (2, 14), (3, 12), (3, 16)]
    assert claims.unique == claims.retrieved == 6


def test_claims_that_the_cap_of_sample_drops_are_counted() -> None:
    claims = claim(sample, arm(sample, k=2, cap=4), evidence(), 0)
    assert len(claims.images) == 4
    assert (claims.retrieved, claims.dropped) == (6, 2)
    uncapped = pairs(claim(sample, arm(sample, k=2), evidence(), 0))
    assert set(pairs(claims)) < set(uncapped)
    assert not len(claim(sample, arm(sample, k=2, cap=0), evidence(), 0).images)


def test_cluster_applies_more_than_and_per_cluster() -> None:
    # Cluster 0 holds two seeds, cluster 1 one: with more_than 1 only cluster 0 matches.
    claims = claim(cluster, arm(cluster, per_cluster=4, more_than=1, cap=None), evidence(), 0)
    assert len(claims.images) == 4
    assert set(images(claims)) < set(range(10, 16))
    assert (claims.requested, claims.available, claims.retrieved) == (4, 6, 4)
    # They are the first four in the seeded order of ids.
    pool = names(*range(10, 16))
    expected = pool[seeded_order(pool, 0, "a")][:4]
    assert sorted(claims.images.tolist()) == sorted(expected.tolist())


@pytest.mark.parametrize(("policy", "count"), [("take_all", 4 + 3), ("skip", 4)])
def test_cluster_smaller_than_per_cluster(policy: str, count: int) -> None:
    chosen = arm(cluster, per_cluster=4, more_than=0, cap=None, small_clusters=policy)
    claims = claim(cluster, chosen, evidence(), 0)
    assert len(claims.images) == count
    assert claims.requested == 8
    assert claims.available == 9


def test_cluster_takes_every_image_of_clusters_with_a_seed() -> None:
    """The image-based filter of DataComp: seeds are in clusters 0 and 1, and 19 alone in cluster 2."""
    options = arm(cluster, more_than=0, per_cluster=None, cap=None)
    outcome = claim(cluster, options, evidence(), 0)
    assert sorted(outcome.images) == names(*range(10, 19)).tolist()
    assert (outcome.requested, outcome.available, outcome.retrieved) == (9, 9, 9)
    for without_effect in ({"small_clusters": "skip"}, {"expected_clusters": 3}):
        with pytest.raises(ValidationError, match="no effect with per_cluster: null"):
            arm(cluster, per_cluster=None, **without_effect)


def test_cluster_applies_the_cap() -> None:
    claims = claim(cluster, arm(cluster, per_cluster=4, more_than=0, cap=5), evidence(), 0)
    assert (claims.retrieved, claims.dropped, len(claims.images)) == (7, 2, 5)


def test_cluster_without_a_match_claims_nothing() -> None:
    claims = claim(cluster, arm(cluster, per_cluster=4, more_than=3), evidence(), 0)
    assert (claims.requested, claims.available, claims.retrieved) == (0, 0, 0)


def test_seeds_without_a_cluster_match_nothing() -> None:
    lost = evidence(seeds=members([1, 2, 3], [-1, -1, -1]))
    claims = claim(cluster, arm(cluster, per_cluster=4, more_than=0), lost, 0)
    assert claims.retrieved == 0


@pytest.mark.parametrize("options", [{"cap": 5}, {"cap": None, "more_than": 1}])
def test_order_of_rows_does_not_matter(options: dict[str, Any]) -> None:
    """The same images come in another order if the pool has other fragments."""
    chosen = arm(cluster, per_cluster=3, **({"more_than": 0} | options))
    rng = np.random.default_rng(0)
    expected = sorted(claim(cluster, chosen, evidence(), 3).images.tolist())
    for _ in range(5):
        order = rng.permutation(10)
        pool = evidence().pool
        shuffled = EligibleImages(
            pool.images[order], pool.cluster_id[order], pool.similarity[order]
        )
        claims = claim(cluster, chosen, evidence(pool=shuffled), 3)
        assert sorted(claims.images.tolist()) == expected


def test_another_seed_gives_another_sample() -> None:
    chosen = arm(cluster, per_cluster=3, more_than=1)
    drawn = {tuple(images(claim(cluster, chosen, evidence(), seed))) for seed in range(20)}
    assert len(drawn) > 5


def test_seeded_keys_are_uniform_and_salted() -> None:
    rng = np.random.default_rng(0)
    ids = np.array([rng.bytes(16).hex() for _ in range(20_000)], dtype="S32")
    keys = seeded_keys(ids, 0, "arm")
    share = np.bincount((keys >> np.uint64(60)).astype(int), minlength=16) / len(keys)
    assert np.abs(share - 1 / 16).max() < 0.01
    assert not np.array_equal(keys, seeded_keys(ids, 1, "arm"))
    one_by_one = [seeded_keys(ids[i : i + 1], 0, "arm")[0] for i in range(100)]
    assert one_by_one == keys[:100].tolist()


# -- levels ---------------------------------------------------------------------------------------


def levels() -> Given:
    """Clusters 0 to 4 with 6, 3, 1, 4 and 0 images; the parent of 0 and 1 is 0, of the others 1."""
    return evidence(
        pool=members(range(10, 24), [0] * 6 + [1] * 3 + [2] + [3] * 4),
        parents=(np.array([0, 0, 1, 1, 1], np.int32),),
    )


def per_cluster(claims: Outcome) -> list[int]:
    sizes: list[int] = np.bincount(claims.cluster_id, minlength=5).tolist()
    return sizes


def test_cluster_at_a_coarser_level() -> None:
    """Seeds of clusters 0, 0 and 1 are all in cluster 0 of level 1, with nine pool images."""
    claims = claim(cluster, arm(cluster, level=1, more_than=2, per_cluster=100), levels(), 0)
    assert images(claims) == list(range(10, 19))
    assert set(claims.cluster_id) == {0}
    assert claims.requested == 100


@pytest.mark.parametrize("leaf", ["random", "nearest"])
def test_hierarchical_divides_the_target_from_the_top(leaf: str) -> None:
    # Of 8, each cluster of level 1 gives four: 2 and 2 of 6 and 3; 1, 3 and 0 of 1, 4 and 0.
    claims = claim(hierarchical, arm(hierarchical, target=8, leaf=leaf), levels(), 0)
    assert per_cluster(claims) == [2, 2, 1, 3, 0]
    assert (claims.requested, claims.available, claims.retrieved) == (8, 14, 8)
    assert len(set(images(claims))) == 8
    # Of 12, the second cluster gives all its five, and the first seven: 4 and 3.
    claims = claim(hierarchical, arm(hierarchical, target=12, leaf=leaf), levels(), 0)
    assert per_cluster(claims) == [4, 3, 1, 4, 0]
    # Of 99, all images are claims.
    claims = claim(hierarchical, arm(hierarchical, target=99, leaf=leaf), levels(), 0)
    assert images(claims) == list(range(10, 24))
    assert (claims.requested, claims.retrieved) == (99, 14)


def test_hierarchical_repeats_rare_images_up_to_the_multiplier() -> None:
    claims = claim(hierarchical, arm(hierarchical, target=12, multiplier=2), levels(), 0)
    # Each cluster of level 1 gives six: 3 and 3; the one image of cluster 2 twice, and 4.
    assert per_cluster(claims) == [3, 3, 2, 4, 0]
    ranks: dict[bytes, list[int]] = {}
    for image, rank in zip(claims.images.tolist(), claims.rank, strict=True):
        ranks.setdefault(image, []).append(rank)
    assert ranks[name(19)] == [1, 2]
    assert all(sorted(values) == list(range(1, len(values) + 1)) for values in ranks.values())


def test_hierarchical_takes_the_nearest_images_or_a_seeded_sample() -> None:
    pool, parents = levels().pool, levels().parents
    similarity = pool.similarity.copy()
    similarity[3] = 0.9
    similarity[4] = 0.8
    with_nearest = evidence(
        pool=EligibleImages(pool.images, pool.cluster_id, similarity), parents=parents
    )
    claims = claim(hierarchical, arm(hierarchical, target=8, leaf="nearest"), with_nearest, 0)
    assert {13, 14} <= set(images(claims))
    drawn = [
        tuple(images(claim(hierarchical, arm(hierarchical, target=8), with_nearest, seed)))
        for seed in range(20)
    ]
    assert len(set(drawn)) > 5


def test_hierarchical_is_even_on_one_level() -> None:
    given = evidence(pool=members(range(10, 24), [0] * 6 + [1] * 3 + [2] + [3] * 4))
    claims = claim(hierarchical, arm(hierarchical, target=10), given, 0)
    assert per_cluster(claims) == [3, 3, 1, 3, 0]


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"rank": np.ones(2, np.int32)}, "rank"),
        ({"similarity": np.float32(1)}, "similarity"),
        ({"limits": Limits(np.zeros(3, int), np.zeros(1, np.uint64), np.ones(3, int))}, "order"),
    ],
)
def test_claims_have_a_value_for_each_image(wrong: dict[str, Any], name: str) -> None:
    arm = as_is.StrategyArm(name="all", strategy="as_is", seeds="birds")
    check_shapes(arm, ArmClaims(np.zeros(3, "S32"), 3, limits=None))
    with pytest.raises(RecipeError, match=rf"Arm 'all' claims 3 images, but (limits\.)?{name} has"):
        check_shapes(arm, ArmClaims(np.zeros(3, "S32"), 3, **wrong))


def test_claims_have_what_the_report_groups_them_by() -> None:
    arm = sample.StrategyArm(name="near", strategy="sample", seeds="birds")
    with pytest.raises(RecipeError, match="'sample' is grouped by seed, and its claims have none"):
        check_shapes(arm, ArmClaims(np.zeros(3, "S32"), 3))
