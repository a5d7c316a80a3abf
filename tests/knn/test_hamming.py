"""The join of hashes against brute force over all pairs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.algorithms.knn import (
    hamming,
    hash_cells,
    hash_groups,
    hash_lists,
    hash_merge,
    hash_parts,
)
from curation.algorithms.knn.hamming import hash_join, range_search
from curation.algorithms.knn.hash_groups import Images
from curation.algorithms.knn.hash_merge import (
    HashSearch,
    KnownHashes,
    hash_exchange,
    nearest_images,
    search_hashes,
)
from curation.algorithms.knn.pairs import PAIRS
from curation.algorithms.knn.params import HammingParams
from curation.engine.context import Context
from curation.engine.exchange import exchange_tables
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.parallel import InProcess
from curation.engine.units import StageOutput, empty_batch
from curation.store.fragment import Fragment
from curation.store.store import Store


def near_hashes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Random hashes; the second half copies the first half, with 0 to 60 bits changed."""
    hashes = rng.integers(0, 256, (count, 32), dtype=np.uint8)
    for copy in range(count // 2, count):
        bits = np.unpackbits(hashes[copy - count // 2])
        bits[rng.choice(256, copy % 61, replace=False)] ^= 1
        hashes[copy] = np.packbits(bits)
    return hashes


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    differing: np.ndarray = np.bitwise_count(a[:, None] ^ b[None]).sum(-1)
    return differing


@pytest.fixture(params=[0, 10**6], ids=["lists", "all compared"])
def lists_from(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists and comparing all pairs must find the same."""
    monkeypatch.setattr(hamming, "HASHES_COMPARED", request.param)


@pytest.mark.usefixtures("lists_from")
@pytest.mark.parametrize("distance", [0, 7, 15, 16, 24, 31, 32, 47])
def test_every_pair_within_the_distance_is_found(distance: int) -> None:
    rng = np.random.default_rng(distance)
    hashes = near_hashes(rng, 400)
    query, row, bits = range_search(hashes[::3], hashes, distance)
    true = distances(hashes[::3], hashes)
    assert set(zip(query.tolist(), row.tolist(), strict=True)) == {
        (a, b) for a, b in np.argwhere(true <= distance).tolist()
    }
    np.testing.assert_array_equal(bits, true[query, row])
    assert (bits == distance).any() or distance > 60


@pytest.mark.usefixtures("lists_from")
def test_differences_that_are_spread_evenly_are_found() -> None:
    """Every part of the hash differs in as many bits as a pair within the distance allows."""
    base = np.zeros((1, 32), np.uint8)
    spread = np.zeros(256, np.uint8)
    spread[::8] = 1
    worst = np.packbits(spread)[None]
    assert distances(base, worst)[0, 0] == 32
    assert len(range_search(worst, base, 32)[0]) == 1
    spread[0] = 0
    assert len(range_search(np.packbits(spread)[None], base, 31)[0]) == 1


ROLES = ("pool", "seed", "held_out")
ROLE_PAIRS = (("pool", "pool"), ("held_out", "pool"), ("held_out", "seed"), ("seed", "pool"))


@dataclass(frozen=True)
class World:
    """Images by role, with their hashes; a few have none, and some are in several fragments."""

    rows: dict[str, list[tuple[str, bytes | None]]]

    def write(self, store: Store) -> Images:
        """Write fragments of at most seven rows."""
        by_role: dict[str, dict[str, tuple[Fragment, Fragment]]] = {}
        for role, rows in self.rows.items():
            for start in range(0, len(rows), 7):
                part, name = rows[start : start + 7], f"{role}-{start:05d}"
                by_role.setdefault(role, {})[name] = (
                    written(store, name, "image_id", pa.array([i for i, _ in part])),
                    written(store, name, "phash", pa.array([h for _, h in part], pa.binary())),
                )
        return by_role


def world(seed: int, count: int, crowded: bool) -> World:
    """Near hashes of three roles, with equal ones, and images that are in several roles."""
    rng = np.random.default_rng(seed)
    hashes = near_hashes(rng, count)
    if crowded:
        # Plain pictures: their hashes differ in few bits, and share most values of parts.
        hashes[: count // 2] = 0
        hashes[: count // 2, 3] = rng.integers(0, 8, count // 2)
    picks = rng.integers(0, count, 2 * count)
    images = [(rng.bytes(16).hex(), hashes[n].tobytes()) for n in picks]
    rows: dict[str, list[tuple[str, bytes | None]]] = {}
    for role, share in zip(ROLES, (0.7, 0.2, 0.1), strict=True):
        chosen = rng.choice(len(images), int(share * len(images)))
        rows[role] = [images[n] for n in chosen]
        rows[role] += [(rng.bytes(16).hex(), None) for _ in range(3)]
    return World({role: rows[role] for role in rng.permutation(ROLES)})


def written(store: Store, name: str, column: str, values: pa.Array) -> Fragment:
    writer = FragmentWriter(store, "work/hashes", f"{name}-{column}", None)
    writer.write(pa.RecordBatch.from_arrays([values], names=[column]))
    return Fragment(store, writer.close("work/hashes", f"{name}-{column}", {}))


Joined = dict[tuple[str, str], dict[str, list[tuple[str, float]]]]


def reference(world: World, distance: int, k: int) -> Joined:
    """Compare all pairs: the k nearest hashes by first images, and across roles k further images."""
    joined: Joined = {}
    for query_role, base_role in ROLE_PAIRS:
        groups: dict[bytes, list[str]] = {}
        for image, phash in sorted(set(world.rows[base_role]), key=lambda row: row[0]):
            if phash is not None:
                groups.setdefault(phash, []).append(image)
        by_query = joined.setdefault((query_role, base_role), {})
        for image, phash in set(world.rows[query_role]):
            if phash is not None:
                near = nearest(phash, groups, distance)
                pairs = pairs_of(image, near, k, query_role == base_role)
                if pairs:
                    by_query[image] = pairs
    return joined


def nearest(
    phash: bytes, groups: dict[bytes, list[str]], distance: int
) -> list[tuple[int, list[str]]]:
    """The groups of images with near hashes, the nearest first."""
    bits = {other: (int.from_bytes(other) ^ int.from_bytes(phash)).bit_count() for other in groups}
    near = [(bits[other], images) for other, images in groups.items() if bits[other] <= distance]
    return sorted(near, key=lambda group: (group[0], group[1][0]))


def pairs_of(
    image: str, near: list[tuple[int, list[str]]], k: int, self_join: bool
) -> list[tuple[str, float]]:
    first = [(bits, images[0]) for bits, images in near if images[0] != image][:k]
    further: list[tuple[int, str]] = []
    if not self_join:
        further = [(bits, other) for bits, images in near[:k] for other in images[1 : k + 1]][:k]
        further = [pair for pair in further if pair[1] != image]
    return [(other, float(np.float32(1 - bits / 256))) for bits, other in sorted(first + further)]


def as_joined(parts: Iterable[tuple[str, str, pa.Table]]) -> Joined:
    joined: Joined = {roles: {} for roles in ROLE_PAIRS}
    for query_role, base_role, table in parts:
        by_query = joined[query_role, base_role]
        queries = table.column("query_id").to_pylist()
        assert [q for q, _ in groupby(queries)] == sorted(set(queries))
        for row in table.to_pylist():
            by_query.setdefault(row["query_id"], []).append((row["image_id"], row["similarity"]))
    return joined


def compared(world: World, distance: int, k: int, store: Store) -> Joined:
    context = Context(store, InProcess(), "hashes", None)
    params = HammingParams(max_distance=distance, k=k)
    return as_joined(hash_join(world.write(store), ROLE_PAIRS, params, context))


def write_pairs(near_hashes: pa.Table, members: pa.Table, options: Any) -> StageOutput:
    """Write PAIRS with the number of the join."""
    yield empty_batch(PAIRS.append(pa.field("join", pa.int64())))
    for number, pairs in nearest_images(near_hashes, members, options):
        yield pairs.append_column("join", pa.array([number] * pairs.num_rows, pa.int64()))
    return None


def met_in_cells(world: World, distance: int, k: int, store: Store) -> Joined:
    context = Context(store, InProcess(), "cells", None)
    params = HammingParams(max_distance=distance, k=k)
    search = search_hashes(world.write(store), ROLE_PAIRS, params, context, KnownHashes())
    return merged(search, context)


def merged(search: HashSearch, context: Context) -> Joined:
    """What the near hashes of a search give for each image."""
    parts = []
    for part in exchange_tables(hash_exchange(search, write_pairs), context):
        table = part.read()
        for number, roles in enumerate(ROLE_PAIRS):
            parts.append((*roles, table.filter(pc.equal(table.column("join"), number))))
    return as_joined(parts)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10**6),
    k=st.integers(1, 9),
    distance=st.sampled_from([0, 7, 15, 16, 24, 31, 32, 47]),
    crowded=st.booleans(),
    cell_hashes=st.sampled_from([5, 20, 10**6]),
)
def test_both_joins_give_what_comparing_all_pairs_gives(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    k: int,
    distance: int,
    crowded: bool,
    cell_hashes: int,
) -> None:
    """Small limits cut hashes into many cells, shares, parts and tasks."""
    images = world(seed, 24, crowded)
    expected = reference(images, distance, k)
    store = Store(tmp_path_factory.mktemp("hashes"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hamming, "QUERIES_PER_TASK", 9)
        patch.setattr(hash_parts, "CELL_HASHES", cell_hashes)
        patch.setattr(hash_parts, "ROW_COST", 1.0)
        patch.setattr(hash_cells, "CELL_HASHES", 3 * cell_hashes)
        patch.setattr(hash_cells, "FEWEST_ROWS", 50)
        patch.setattr(hash_groups, "HASHES_PER_PART", 11)
        patch.setattr(hash_groups, "ROWS_AT_ONCE", 6)
        patch.setattr(hash_merge, "PAIRS_PER_MERGE", 30)
        patch.setattr(hash_lists, "PAIRS_AT_ONCE", 40)
        patch.setattr(hash_lists, "QUERIES_AT_FIRST", 2)
        assert compared(images, distance, k, store) == expected
        assert met_in_cells(images, distance, k, store) == expected


def test_without_any_hash_there_are_no_pairs(tmp_path: Path) -> None:
    images = World({role: [("0" * 32, None)] for role in ROLES})
    nothing: Joined = {roles: {} for roles in ROLE_PAIRS}
    assert compared(images, 24, 4, Store(tmp_path)) == nothing
    assert met_in_cells(images, 24, 4, Store(tmp_path)) == nothing


@pytest.mark.parametrize("distance", [0, 8, 24, 31, 47])
def test_near_hashes_meet_first_in_exactly_one_part(distance: int) -> None:
    """Each pair within the distance is kept once, whatever the number of hashes decides."""
    rng = np.random.default_rng(distance)
    differing = np.zeros((300, 256), np.uint8)
    for row, bits in enumerate(differing):
        bits[rng.choice(256, row % (distance + 1), replace=False)] = 1
    packed = np.packbits(differing, axis=1)
    for hashes in (10, 10**6, 10**8, 1_300_000_000):
        parts = hash_parts.choose_parts(distance, hashes)
        first = np.zeros(len(packed), np.int64)
        base = parts.cells_of(np.zeros((1, 32), np.uint8))
        same_cell = parts.cells_of(packed) == base
        for number, piece in enumerate(parts.pieces):
            bits = np.bitwise_count(parts.lists_of(packed, piece))
            meet = np.flatnonzero(same_cell[:, number] & (bits <= piece.radius))
            first[meet] += parts.is_first_meeting(hash_parts.take_words(packed, meet), piece)
            assert parts.list_bits(piece.part) <= hash_parts.MAX_LIST_BITS
        assert (first == 1).all()


def test_many_near_hashes_are_searched_in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash_lists, "PAIRS_AT_ONCE", 500)
    monkeypatch.setattr(hash_lists, "QUERIES_AT_FIRST", 2)
    hashes = np.zeros((200, 32), np.uint8)
    hashes[:, 0] = np.arange(200)
    parts = hash_parts.HashParts(8, 16)
    lists = [
        pairs
        for piece in parts.pieces
        for pairs in hash_lists.HashLists(hashes, parts, piece).near(hashes)
    ]
    assert max(len(query) for query, *_ in lists) <= 600
    assert sum(len(query) for query, *_ in lists) == 200 * 200
