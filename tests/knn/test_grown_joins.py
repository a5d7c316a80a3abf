"""Joins of a pool that grew: pairs of old vectors are taken over, with equal results."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.algorithms.knn import blocks, cells, pair_merge, routing
from curation.algorithms.knn.blocks import blocks_of, search_blocks
from curation.algorithms.knn.cells import search_cells
from curation.algorithms.knn.codebooks import codebooks_batch
from curation.algorithms.knn.ivf import Codebooks, train_coarse
from curation.algorithms.knn.pair_merge import merge_exchange, merge_pairs, pair_readings
from curation.engine.context import Context
from curation.engine.exchange import exchange_tables
from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.stages.neighbours import stage
from curation.stages.neighbours.earlier_join import EarlierJoin
from curation.store.fragment import Fragment
from curation.store.store import Store, manifest_path

from ..tables import VectorParts, commit_vectors, run_step
from ..workers import Recording

DIM = 12
ROLE_PAIRS = (("pool", "pool"), ("held_out", "pool"), ("held_out", "seed"), ("seed", "pool"))
ROLES = {"web": "pool", "seeds": "seed", "test": "held_out"}
Pairs = dict[tuple[str, ...], float | np.float32]
Roles = dict[str, dict[str, Fragment]]


def world(seed: int, fragments: int, rows: int) -> VectorParts:
    """Fragments of all roles with near vectors, equal vectors, and images that occur in several."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(6, DIM))
    count = fragments * rows
    # Few of one place have many neighbours; half of all lie there.
    place = np.minimum(rng.integers(0, 12, count), len(centres) - 1)
    vectors = centres[place] + 0.1 * rng.normal(size=(count, DIM))
    vectors[rng.integers(0, count, count // 8)] = vectors[0]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    # The vector belongs to the image, which may be in several fragments and roles.
    images = rng.integers(0, count, size=count)
    ids = np.array([f"{(n * 37) % 256:02x}{n:030x}" for n in range(count)], "S32")
    sources = ["web", *rng.choice(["web", "web", "seeds", "test"], fragments - 1)]
    return {
        f"{source}-{n}": (ids[images[part]], vectors[images[part]])
        for n, source in enumerate(sources)
        for part in [slice(n * rows, n * rows + rows)]
    }


def by_role(store: Store, names: list[str]) -> Roles:
    fragments = open_table(store, "embeddings.semantic").fragments
    roles: Roles = {}
    for name in names:
        roles.setdefault(ROLES[name.split("-")[0]], {})[name] = fragments[name]
    return roles


def merged(tables: list[Fragment], k: int, context: Context) -> list[Fragment]:
    readings, rows = pair_readings(tables), sum(table.rows for table in tables)
    job = merge_exchange(readings, rows, merge_pairs, {"k": k})
    return exchange_tables(job, context)


def pairs_of(tables: list[Fragment]) -> Pairs:
    rows = [row for table in tables for row in table.read().to_pylist()]
    pairs: Pairs = {
        (*ROLE_PAIRS[r["role_pair"]], r["query_id"], r["image_id"]): r["similarity"] for r in rows
    }
    assert len(pairs) == len(rows)
    return pairs


@pytest.mark.parametrize("examples", [8, pytest.param(150, marks=pytest.mark.nightly)])
def test_a_pool_that_grows_has_the_pairs_of_one_join(
    examples: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        join=st.sampled_from(["blocks", "cells"]),
        seed=st.integers(0, 2**32 - 1),
        grown=st.lists(st.integers(1, 3), min_size=2, max_size=4),
        sizes=st.tuples(st.integers(1, 6), st.integers(1, 9)),
        small_tasks=st.booleans(),
    )
    def check(
        join: str, seed: int, grown: list[int], sizes: tuple[int, int], small_tasks: bool
    ) -> None:
        folder = tmp_path_factory.mktemp("grown")
        compare_with_one_join(join, seed, grown, sizes, small_tasks, folder)

    check()


def compare_with_one_join(
    join: str,
    seed: int,
    grown: list[int],
    sizes: tuple[int, int],
    small_tasks: bool,
    folder: Path,
) -> None:
    k, count = sizes
    store = Store(folder)
    parts = world(seed, sum(grown), 40)
    commit_vectors(store, parts)
    context = Context(store, InProcess(), "joins", None)
    every_vector = np.concatenate([vectors for _, vectors in parts.values()])
    context.save_state(
        "cells", count, codebooks_batch(Codebooks(train_coarse(every_vector, count, 0)))
    )
    codebooks = context.load_state("cells", count)
    assert codebooks is not None
    options = {"k": k, "floor": 0.6, "spread": min(2, count)}
    with pytest.MonkeyPatch.context() as patch:
        if small_tasks:
            patch.setattr(blocks, "blocks_of", lambda fragments: blocks_of(fragments, 90))
            patch.setattr(cells, "BYTES_PER_GROUP", 2**11)
            patch.setattr(routing, "ROWS_PER_TASK", 30)
            patch.setattr(pair_merge, "PAIRS_PER_MERGE", 500)
        order = np.random.default_rng(seed).permutation(list(parts)).tolist()

        def search(roles: Roles, joined: set[tuple[str, str]]) -> list[Fragment]:
            if join == "blocks":
                return search_blocks(roles, ROLE_PAIRS, options, context, "blocks", joined)
            return search_cells(roles, ROLE_PAIRS, options, codebooks, context, joined)

        known: list[Fragment] = []
        joined: set[tuple[str, str]] = set()
        for end in np.cumsum(grown).tolist():
            roles = by_role(store, order[:end])
            known = merged([*known, *search(roles, joined)], k, context)
            joined = {(role, f.content) for role, named in roles.items() for f in named.values()}
        expected = pairs_of(merged(search(by_role(store, order), set()), k, context))
    assert pairs_of(known) == expected


RECIPE: dict[str, Any] = {
    "name": "grown",
    "sources": [
        {"name": "web", "role": "pool", "format": "csv", "path": "w", "columns": {"url": "u"}},
        {"name": "seeds", "role": "seed", "format": "folder", "path": "s"},
        {"name": "test", "role": "held_out", "format": "folder", "path": "t"},
    ],
    "dedup": {
        "near": {"encoder": "semantic", "k": 4, "at_least": 0.7, "join": "cells"},
        "verify": None,
        "perceptual": None,
    },
}


def neighbours(
    store: Store, parts: VectorParts, workers: InProcess, join: str = "cells"
) -> list[dict[str, Any]]:
    commit_vectors(store, parts)
    near = RECIPE["dedup"]["near"] | {"join": join}
    recipe = parse_recipe(RECIPE | {"dedup": RECIPE["dedup"] | {"near": near}})
    step = next(step for step in plan(recipe) if step.name == "neighbours")
    run_step(step, store, workers)
    rows: list[dict[str, Any]] = open_table(store, "neighbours").read().to_pylist()
    return sorted(rows, key=lambda row: (row["role_a"], row["role_b"], row["image_a"], row["rank"]))


def grown_world() -> tuple[VectorParts, VectorParts]:
    parts = {f"web-{n}": part for n, part in enumerate(world(3, 8, 60).values())}
    parts = parts | {"seeds-0": parts.pop("web-6"), "test-0": parts.pop("web-7")}
    return {name: part for name, part in parts.items() if name != "web-5"}, parts


@pytest.mark.parametrize("join", ["exact", "cells"])
def test_a_step_computes_the_pairs_of_new_fragments_alone(
    join: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early, parts = grown_world()
    store = Store(tmp_path / "grown")
    neighbours(store, early, InProcess(), join)
    shutil.copytree(tmp_path / "grown", tmp_path / "whole")
    joined: list[frozenset[tuple[str, str]]] = []
    for function in (search_blocks, search_cells):
        monkeypatch.setattr(stage, function.__name__, recorded(function, joined))
    recording = Recording()
    rows = neighbours(store, parts, recording, join)
    units = {label: recording.mapped.count(label) for label in recording.mapped}
    if join == "cells":
        assert units["route"] == 1
    else:
        # The new block with itself, and both ways with the old one.
        assert {u: n for u, n in units.items() if u.startswith("near")} == {
            "near pool-pool": 3,
            "near held_out-pool": 1,
            "near seed-pool": 1,
        }
    assert [len(fragments) for fragments in joined] == [len(early)]
    monkeypatch.setattr(stage, "earlier_join", lambda *_: EarlierJoin())
    assert rows == neighbours(Store(tmp_path / "whole"), parts, InProcess(), join)


def recorded(
    search: Callable[..., list[Fragment]], joined: list[frozenset[tuple[str, str]]]
) -> Callable[..., list[Fragment]]:
    """Return a search that records which fragments were joined before."""

    def record(*arguments: Any) -> list[Fragment]:
        joined.append(arguments[-1])
        return search(*arguments)

    return record


@pytest.mark.parametrize("join", ["exact", "cells"])
@pytest.mark.parametrize(
    "change", ["removed", "another role", "lost file", "replaced", "lost manifest"]
)
def test_all_pairs_are_computed_where_a_vector_of_before_is_gone(
    change: str, join: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early, parts = grown_world()
    store = Store(tmp_path / "grown")
    neighbours(store, early, InProcess(), join)
    if change == "removed":
        del parts["web-2"]
    elif change == "another role":
        parts["seeds-1"] = parts.pop("web-2")
    elif change == "replaced":
        ids, vectors = parts["web-2"]
        parts["web-2"] = (ids, vectors[::-1])
    elif change == "lost manifest":
        # As after gc, if other images led to the same pairs since then.
        reads = open_table(store, "neighbours").manifest.reads
        (tmp_path / "grown" / manifest_path("images", reads["images"])).unlink()
        del parts["web-2"]
    else:
        (tmp_path / "grown" / files_of_pairs(store)[0]).unlink()
    shutil.copytree(tmp_path / "grown", tmp_path / "whole")
    rows = neighbours(store, parts, InProcess(), join)
    monkeypatch.setattr(stage, "earlier_join", lambda *_: EarlierJoin())
    assert rows == neighbours(Store(tmp_path / "whole"), parts, InProcess(), join)


def files_of_pairs(store: Store) -> list[str]:
    """The files of the pairs of the level `near`."""
    records = open_table(store, "neighbours").manifest.fragments
    return [f.path for record in records if record.name != "all" for f in record.files]
