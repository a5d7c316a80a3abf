"""The join of hashes against brute force over all pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.algorithms.knn import hamming
from curation.algorithms.knn.hamming import hash_join, range_search
from curation.algorithms.knn.params import HammingParams
from curation.engine.context import Context
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.store.fragment import Fragment
from curation.store.store import Store

from ..tables import commit, commit_batches


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


@pytest.fixture(params=[0, 10**6], ids=["tables", "all compared"], autouse=True)
def tables_from(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash tables and comparing all pairs must find the same."""
    monkeypatch.setattr(hamming, "TABLES_FROM_HASHES", request.param)


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


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(hamming, "HASHES_PER_BLOCK", 60)
    rng = np.random.default_rng(0)
    store = Store(tmp_path)
    hashes = near_hashes(rng, 150)
    hashes[100:105] = hashes[0]
    parts = {
        "web-0": hashes[:50],
        "web-1": hashes[50:100],
        "web-2": hashes[100:],
        "test-0": hashes[:3],
    }
    images, scores, first = {}, {}, {"web": 0, "test": 900}
    for name, part in parts.items():
        source = name.split("-")[0]
        ids = [f"{first[source] + n:032x}" for n in range(len(part))]
        first[source] += len(part)
        role = {"web": "pool", "test": "held_out"}[source]
        images[name] = [
            {"pair_id": i, "image_id": i, "role": role, "source": source, "status": "ok"}
            for i in ids
        ]
        # Every tenth image has no hash, as flat images do.
        raw = [None if n % 10 == 9 else h.tobytes() for n, h in enumerate(part)]
        scores[name] = pa.RecordBatch.from_pydict(
            {"pair_id": ids, "phash": pa.array(raw, pa.binary()), "pixel_id": ids}
        )
    commit(store, "images", images)
    commit_batches(store, "scores", scores)
    return store


def joined(store: Store, **params: Any) -> list[tuple[str, str, pa.Table]]:
    images, scores = (open_table(store, name).fragments for name in ("images", "scores"))
    by_role = {
        "pool": {n: (images[n], scores[n]) for n in images if n.startswith("web")},
        "held_out": {n: (images[n], scores[n]) for n in images if n.startswith("test")},
    }
    role_pairs = [("pool", "pool"), ("held_out", "pool")]
    context = Context(store, InProcess(), "hashes", None)
    return list(hash_join(by_role, role_pairs, HammingParams(**params), context))


def test_pairs_give_the_components_of_brute_force(store: Store) -> None:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    images, scores = (open_table(store, name) for name in ("images", "scores"))
    ids = images.read(["image_id"]).column("image_id").to_pylist()[:150]
    raw = scores.read(["phash"]).column("phash").to_pylist()[:150]
    hashed = [n for n, phash in enumerate(raw) if phash is not None]
    hashes = np.stack([np.frombuffer(raw[n], np.uint8) for n in hashed])
    near = np.argwhere(distances(hashes, hashes) <= 24)
    number_of = {ids[n]: number for number, n in enumerate(hashed)}

    def components_of(
        left: Sequence[int] | np.ndarray, right: Sequence[int] | np.ndarray
    ) -> list[int]:
        graph = coo_array((np.ones(len(left)), (left, right)), shape=(len(hashed),) * 2)
        _, label = connected_components(graph, directed=False)
        _, first = np.unique(label, return_index=True)
        smallest: list[int] = first[label].tolist()
        return smallest

    pool = [table for a, b, table in joined(store, max_distance=24) if (a, b) == ("pool", "pool")]
    table = pa.concat_tables(pool).to_pylist()
    left = [number_of[row["query_id"]] for row in table]
    right = [number_of[row["image_id"]] for row in table]
    assert all(a != b for a, b in zip(left, right, strict=True))
    for row, a, b in zip(table, left, right, strict=True):
        bits = distances(hashes[a : a + 1], hashes[b : b + 1])[0, 0]
        assert row["similarity"] == np.float32(1 - bits / 256)
    expected = components_of(near[:, 0], near[:, 1])
    assert components_of(left, right) == expected
    assert len(set(expected)) < len(hashed) - 20


def test_a_held_out_image_finds_its_copies_in_the_pool(store: Store) -> None:
    tables = [t for a, _, t in joined(store, max_distance=24) if a == "held_out"]
    rows = pa.concat_tables(tables).to_pylist()
    first = [r for r in rows if r["query_id"] == f"{900:032x}"]
    assert max(r["similarity"] for r in first) == 1.0
    assert f"{0:032x}" in {r["image_id"] for r in first}


def hashed(
    store: Store, name: str, ids: list[str], hashes: np.ndarray
) -> tuple[Fragment, Fragment]:
    """Return fragments with ids and hashes, as `search_hashes` reads them."""
    fragments = []
    for column, values in (
        ("image_id", pa.array(ids)),
        ("phash", pa.array([h.tobytes() for h in hashes], pa.binary())),
    ):
        writer = FragmentWriter(store, "work/hashes", f"{name}-{column}", None)
        writer.write(pa.RecordBatch.from_arrays([values], names=[column]))
        fragments.append(Fragment(store, writer.close("work/hashes", f"{name}-{column}", {})))
    return fragments[0], fragments[1]


def found_by(
    queries: tuple[Fragment, Fragment], base: tuple[Fragment, Fragment], k: int
) -> pa.Table:
    pairs = list(hamming.search_hashes([queries], [base], {"k": k, "distance": 24}))
    return pa.Table.from_batches(pairs)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**6), k=st.integers(1, 12), same=st.booleans())
def test_a_reference_image_finds_every_image_of_its_hashes(
    tmp_path_factory: pytest.TempPathFactory, seed: int, k: int, same: bool
) -> None:
    """The k nearest hashes through their first image, and up to k further images of these."""
    rng = np.random.default_rng(seed)
    store = Store(tmp_path_factory.mktemp("hashes"))
    distinct = near_hashes(rng, 8)
    base = distinct[rng.integers(0, 8, 30)]
    ids = sorted(rng.bytes(16).hex() for _ in range(30))
    # A query may have the bytes of an image of the base.
    query_ids = sorted([rng.bytes(16).hex(), ids[3] if same else rng.bytes(16).hex()])
    queries = np.stack([base[3], base[3]])
    table = found_by(hashed(store, "q", query_ids, queries), hashed(store, "b", ids, base), k)
    bits = distances(queries[:1], base)[0]
    by_hash: dict[bytes, list[int]] = {}
    for row in np.argsort(bits, kind="stable").tolist():
        if bits[row] <= 24:
            by_hash.setdefault(base[row].tobytes(), []).append(row)
    nearest = sorted(by_hash.values(), key=lambda rows: (bits[rows[0]], rows[0]))
    for query in query_ids:
        rows = table.filter(pc.equal(table.column("query_id"), query)).to_pylist()
        first = [r["image_id"] for r in rows if r["first"]]
        further = [r["image_id"] for r in rows if not r["first"]]
        wanted = [ids[rows[0]] for rows in nearest if ids[rows[0]] != query]
        assert first == wanted[:k]
        rest = [ids[row] for rows in nearest[:k] for row in rows[1 : k + 1]][:k]
        assert sorted(further) == sorted(image for image in rest if image != query)


def test_a_held_out_image_is_linked_to_every_image_of_its_hash(store: Store) -> None:
    rows = [r for a, _, t in joined(store) if a == "held_out" for r in t.to_pylist()]
    first = {r["image_id"] for r in rows if r["query_id"] == f"{900:032x}"}
    assert first >= {f"{n:032x}" for n in (0, 100, 101, 102, 103, 104)}


def test_many_near_hashes_are_searched_in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hamming, "PAIRS_AT_ONCE", 500)
    monkeypatch.setattr(hamming, "QUERIES_AT_FIRST", 2)
    hashes = np.zeros((200, 32), np.uint8)
    hashes[:, 0] = np.arange(200)
    batches = list(hamming._range_batches(hashes, hashes, 8))
    assert max(len(query) for _, query, _, _ in batches) <= 600
    assert sum(len(query) for _, query, _, _ in batches) == 200 * 200
    assert [start for start, *_ in batches] == sorted(start for start, *_ in batches)
