"""Arms against results computed by hand, with every limit binding."""

from __future__ import annotations

import numpy as np
import pytest

from curation.algorithms.arrays.seeded_order import seeded_keys, seeded_order
from curation.stages.retrieve.strategies import as_is, cluster, hierarchical, sample
from curation.stages.retrieve.strategies.evidence import EligibleImages, Evidence, Matches


def name(number: int) -> bytes:
    return f"{number:032x}".encode()


def names(*numbers: int) -> np.ndarray:
    return np.array([name(n) for n in numbers], dtype="S32")


def members(images, clusters) -> EligibleImages:
    return EligibleImages(
        names(*images), np.array(clusters, np.int32), np.full(len(images), 0.5, np.float32)
    )


def evidence(**changes) -> Evidence:
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
    given = {
        "pool": members(range(10, 20), [0, 0, 0, 0, 0, 0, 1, 1, 1, 2]),
        "seeds": {"s": members([1, 2, 3], [0, 0, 1])},
        "seed_rows_by_set": {"s": 5},
        "matches_by_set": {"s": matches},
    }
    return Evidence(**(given | changes))


def arm(module, **options):
    strategy = module.__name__.rsplit(".", 1)[1]
    seeds = {} if module is hierarchical else {"seeds": "s"}
    return module.StrategyArm(name="a", strategy=strategy, **seeds, **options)


def pairs(claimed) -> list[tuple[int, int]]:
    return sorted(
        (int(s, 16), int(i, 16)) for s, i in zip(claimed.seed_images, claimed.images, strict=True)
    )


def images(claimed) -> list[int]:
    return sorted(int(i, 16) for i in claimed.images)


def test_as_is_takes_the_eligible_seeds():
    claimed = as_is.claim(arm(as_is), evidence(), 0)
    assert images(claimed) == [1, 2, 3]
    assert (claimed.requested, claimed.available, claimed.retrieved) == (5, 3, 3)


def test_sample_counts_collisions():
    claimed = sample.claim(arm(sample, k=2), evidence(), 0)
    assert pairs(claimed) == [(1, 10), (1, 11), (2, 10), (2, 11), (3, 10), (3, 12)]
    assert (claimed.requested, claimed.retrieved, claimed.unique) == (6, 6, 3)


def test_sample_keeps_the_best_claim_once():
    claimed = sample.claim(arm(sample, k=2, collisions="once"), evidence(), 0)
    # 10 goes to seed 1 (.99 > .98 > .84), 11 to seed 2 (.95 > .90), 12 to seed 3 alone within k.
    assert pairs(claimed) == [(1, 10), (2, 11), (3, 12)]
    assert (claimed.requested, claimed.available, claimed.retrieved) == (6, 6, 3)


def test_sample_reassigns_to_the_next_neighbour():
    claimed = sample.claim(arm(sample, k=2, collisions="reassign"), evidence(), 0)
    # By falling similarity: 1→10, (2→10 taken), 2→11, (1→11 taken), 3→12, (3→10 taken),
    # (1→12 taken), 1→13, 2→14, (2→15 has two), 3→16.
    assert pairs(claimed) == [(1, 10), (1, 13), (2, 11), (2, 14), (3, 12), (3, 16)]
    assert claimed.unique == claimed.retrieved == 6


def test_sample_cap_binds_and_is_counted():
    claimed = sample.claim(arm(sample, k=2, cap=4), evidence(), 0)
    assert len(claimed.images) == 4
    assert (claimed.retrieved, claimed.dropped) == (6, 2)
    every = pairs(sample.claim(arm(sample, k=2), evidence(), 0))
    assert set(pairs(claimed)) < set(every)
    assert not len(sample.claim(arm(sample, k=2, cap=0), evidence(), 0).images)


def test_cluster_more_than_and_per_cluster_bind():
    # Cluster 0 holds two seeds, cluster 1 one: with more_than 1 only cluster 0 matches.
    claimed = cluster.claim(arm(cluster, per_cluster=4, more_than=1, cap=None), evidence(), 0)
    assert len(claimed.images) == 4
    assert set(images(claimed)) < set(range(10, 16))
    assert (claimed.requested, claimed.available, claimed.retrieved) == (4, 6, 4)
    # Which four: those first in the seeded order of identities.
    pool = names(*range(10, 16))
    expected = pool[seeded_order(pool, 0, "a")][:4]
    assert sorted(claimed.images.tolist()) == sorted(expected.tolist())


@pytest.mark.parametrize(("policy", "count"), [("take_all", 4 + 3), ("skip", 4)])
def test_cluster_smaller_than_asked(policy, count):
    chosen = arm(cluster, per_cluster=4, more_than=0, cap=None, small_clusters=policy)
    claimed = cluster.claim(chosen, evidence(), 0)
    assert len(claimed.images) == count
    assert claimed.requested == 8
    assert claimed.available == 9


def test_cluster_cap_binds():
    claimed = cluster.claim(arm(cluster, per_cluster=4, more_than=0, cap=5), evidence(), 0)
    assert (claimed.retrieved, claimed.dropped, len(claimed.images)) == (7, 2, 5)


def test_cluster_without_a_match_claims_nothing():
    claimed = cluster.claim(arm(cluster, per_cluster=4, more_than=3), evidence(), 0)
    assert (claimed.requested, claimed.available, claimed.retrieved) == (0, 0, 0)


def test_seeds_without_a_cluster_match_nothing():
    lost = evidence(seeds={"s": members([1, 2, 3], [-1, -1, -1])})
    claimed = cluster.claim(arm(cluster, per_cluster=4, more_than=0), lost, 0)
    assert claimed.retrieved == 0


@pytest.mark.parametrize("options", [{"cap": 5}, {"cap": None, "more_than": 1}])
def test_order_of_rows_does_not_matter(options):
    """The same images in another order, as other fragments would give them."""
    chosen = arm(cluster, per_cluster=3, **({"more_than": 0} | options))
    rng = np.random.default_rng(0)
    expected = sorted(cluster.claim(chosen, evidence(), 3).images.tolist())
    for _ in range(5):
        order = rng.permutation(10)
        pool = evidence().pool
        shuffled = EligibleImages(
            pool.images[order], pool.cluster_id[order], pool.similarity[order]
        )
        claimed = cluster.claim(chosen, evidence(pool=shuffled), 3)
        assert sorted(claimed.images.tolist()) == expected


def test_another_seed_gives_another_sample():
    chosen = arm(cluster, per_cluster=3, more_than=1)
    drawn = {tuple(images(cluster.claim(chosen, evidence(), seed))) for seed in range(20)}
    assert len(drawn) > 5


def test_seeded_keys_are_uniform_and_salted():
    rng = np.random.default_rng(0)
    ids = np.array([rng.bytes(16).hex() for _ in range(20_000)], dtype="S32")
    keys = seeded_keys(ids, 0, "arm")
    share = np.bincount((keys >> np.uint64(60)).astype(int), minlength=16) / len(keys)
    assert np.abs(share - 1 / 16).max() < 0.01
    assert not np.array_equal(keys, seeded_keys(ids, 1, "arm"))
    one_by_one = [seeded_keys(ids[i : i + 1], 0, "arm")[0] for i in range(100)]
    assert one_by_one == keys[:100].tolist()


# -- levels ---------------------------------------------------------------------------------------


def levels():
    """Clusters 0 to 4 with 6, 3, 1, 4 and 0 images; 0 and 1 below the first of two at level 1."""
    return evidence(
        pool=members(range(10, 24), [0] * 6 + [1] * 3 + [2] + [3] * 4),
        parents=(np.array([0, 0, 1, 1, 1], np.int32),),
    )


def per_cluster(claimed) -> list[int]:
    return np.bincount(claimed.cluster_id, minlength=5).tolist()


def test_cluster_at_a_coarser_level():
    """Seeds of clusters 0, 0, 1 stand in one cluster of level 1, with nine pool images."""
    claimed = cluster.claim(arm(cluster, level=1, more_than=2, per_cluster=100), levels(), 0)
    assert images(claimed) == list(range(10, 19))
    assert set(claimed.cluster_id.tolist()) == {0}
    assert claimed.requested == 100


@pytest.mark.parametrize("leaf", ["random", "nearest"])
def test_hierarchical_shares_out_from_the_top(leaf):
    # 8: four from each side; of 6 and 3 two each, of 1, 4, 0 one and three.
    claimed = hierarchical.claim(arm(hierarchical, target=8, leaf=leaf), levels(), 0)
    assert per_cluster(claimed) == [2, 2, 1, 3, 0]
    assert (claimed.requested, claimed.available, claimed.retrieved) == (8, 14, 8)
    assert len(set(images(claimed))) == 8
    # 12: the second side has only five; seven from the first: four and three.
    claimed = hierarchical.claim(arm(hierarchical, target=12, leaf=leaf), levels(), 0)
    assert per_cluster(claimed) == [4, 3, 1, 4, 0]
    # More than there is: all, and the shortfall shows.
    claimed = hierarchical.claim(arm(hierarchical, target=99, leaf=leaf), levels(), 0)
    assert images(claimed) == list(range(10, 24))
    assert (claimed.requested, claimed.retrieved) == (99, 14)


def test_hierarchical_repeats_rare_images_only_as_often_as_allowed():
    claimed = hierarchical.claim(arm(hierarchical, target=12, multiplier=2), levels(), 0)
    # Six from each side: three and three; two of the single image, four of the others.
    assert per_cluster(claimed) == [3, 3, 2, 4, 0]
    again = {}
    for image, rank in zip(claimed.images.tolist(), claimed.rank.tolist(), strict=True):
        again.setdefault(image, []).append(rank)
    assert again[name(19)] == [1, 2]
    assert all(sorted(ranks) == list(range(1, len(ranks) + 1)) for ranks in again.values())


def test_hierarchical_takes_the_nearest_or_a_seeded_few():
    given = levels()
    near = given.pool.similarity.copy()
    near[3] = 0.9
    near[4] = 0.8
    given = evidence(
        pool=EligibleImages(given.pool.images, given.pool.cluster_id, near), parents=given.parents
    )
    claimed = hierarchical.claim(arm(hierarchical, target=8, leaf="nearest"), given, 0)
    assert {13, 14} <= set(images(claimed))
    drawn = [
        tuple(images(hierarchical.claim(arm(hierarchical, target=8), given, seed)))
        for seed in range(20)
    ]
    assert len(set(drawn)) > 5


def test_hierarchical_is_even_on_one_level():
    given = evidence(pool=members(range(10, 24), [0] * 6 + [1] * 3 + [2] + [3] * 4))
    claimed = hierarchical.claim(arm(hierarchical, target=10), given, 0)
    assert per_cluster(claimed) == [3, 3, 1, 3, 0]
