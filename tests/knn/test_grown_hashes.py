"""The join of hashes of a pool that grew: pairs of old hashes are taken over, with equal results."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.algorithms.knn import hash_cells, hash_groups, hash_parts
from curation.algorithms.knn.hash_groups import Images, contents_of
from curation.algorithms.knn.hash_merge import KnownHashes, hash_exchange, search_hashes
from curation.algorithms.knn.params import HammingParams
from curation.engine.context import Context
from curation.engine.exchange import exchange_tables
from curation.engine.parallel import InProcess
from curation.store.fragment import Fragment
from curation.store.store import Store

from .test_hamming import ROLE_PAIRS, Joined, as_joined, reference, world, write_pairs


def part_of(images: Images, names: set[str]) -> Images:
    """The fragments with some names, of the roles that have one."""
    parts = {
        role: {name: pair for name, pair in named.items() if name in names}
        for role, named in images.items()
    }
    return {role: named for role, named in parts.items() if named}


def joined(tables: list[Fragment]) -> Joined:
    parts = []
    for table in tables:
        rows = table.read()
        for number, roles in enumerate(ROLE_PAIRS):
            parts.append((*roles, rows.filter(pc.equal(rows.column("join"), number))))
    return as_joined(parts)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10**6),
    k=st.integers(1, 6),
    distance=st.sampled_from([0, 15, 24, 47]),
    crowded=st.booleans(),
    shares=st.lists(st.integers(1, 5), min_size=2, max_size=4),
)
def test_images_that_are_added_give_what_comparing_all_pairs_gives(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    k: int,
    distance: int,
    crowded: bool,
    shares: list[int],
) -> None:
    """Images are added in any order: equal ones, smaller ids, and whole roles that come later."""
    images, store = world(seed, 24, crowded), Store(tmp_path_factory.mktemp("hashes"))
    context = Context(store, InProcess(), "cells", None)
    params = HammingParams(max_distance=distance, k=k)
    every = images.write(store)
    order = np.random.default_rng(seed).permutation([n for named in every.values() for n in named])
    ends = np.ceil(np.cumsum(shares) / sum(shares) * len(order)).astype(int)
    known = KnownHashes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hash_parts, "CELL_HASHES", 20)
        patch.setattr(hash_parts, "ROW_COST", 1.0)
        patch.setattr(hash_cells, "CELL_HASHES", 60)
        patch.setattr(hash_cells, "FEWEST_ROWS", 50)
        patch.setattr(hash_groups, "HASHES_PER_PART", 11)
        patch.setattr(hash_groups, "ROWS_AT_ONCE", 6)
        for end in ends.tolist():
            by_role = part_of(every, set(order[:end].tolist()))
            search = search_hashes(by_role, ROLE_PAIRS, params, context, known)
            known = KnownHashes(contents_of(by_role), search.near_hashes)
    tables = exchange_tables(hash_exchange(search, write_pairs), context)
    assert joined(tables) == reference(images, distance, k)
