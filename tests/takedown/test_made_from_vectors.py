"""What is made from the vectors of all pictures: codebooks, lists, centroids and cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curation.engine.table import open_table
from curation.runner.gc.kept_runs import Retention
from curation.runner.takedown.prove import prove
from curation.store.store import Store

from ..e2e.small import write_rows
from ..gc.helpers import build_tiny, copied, digest_of, gc, run_recipe
from .helpers import forget, holding, with_urls

TRAINED = ("codebooks", "centroids")
MADE_WITH_THEM = ("lists", "assignments", "neighbours", "matches")
SEARCHING = ("quantise", "cluster", "neighbours", "match")
"""Stages with work tables of vectors, or of sums of them."""


def indexed(folder: Path) -> dict[str, Any]:
    """A recipe with an index, centroids that stay, and a join by cells."""
    spec = with_urls(build_tiny(folder), folder)
    spec["match"] = {"index": "ivf_flat", "nlist": 2}
    spec["cluster"] = {"levels": [2], "retrain": "never"}
    spec["dedup"]["near"] |= {"join": "cells"}
    return spec


def files_by_folder(store: Path) -> dict[str, dict[str, str]]:
    """The checksums of files with rows, by the folder of their table or work table."""
    by_folder: dict[str, dict[str, str]] = {}
    for path, digest in digest_of(store).items():
        if ".parquet" in path:
            folder = "/".join(path.split("/")[:2])
            by_folder.setdefault(folder, {})[path] = digest
    return by_folder


@dataclass(frozen=True)
class Trained:
    """A store in which a recipe ran, and ran again without one of its pictures.

    Attributes:
        spec: the recipe.
        store: the store.
        listed: the row of a picture that is still in the pool.
        unlisted: the row of the picture that left it.
    """

    spec: dict[str, Any]
    store: Path
    listed: dict[str, Any]
    unlisted: dict[str, Any]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("vectors")
    spec, store = indexed(folder / "web"), folder / "store"
    run_recipe(spec, store)
    by_key = {row["source_key"]: row for row in rows_of(store, "images")}
    pool = folder / "web" / "pool" / "a.parquet"
    write_rows(pool, [row for row in pq.read_table(pool).to_pylist() if row["key"] != "p2"])
    run_recipe(spec, store)
    assert open_table(Store(store), "codebooks").manifest.stats["training_vectors"] == 0
    assert open_table(Store(store), "centroids").manifest.stats["drift"]["kept"]
    return Trained(spec, store, by_key["p1"], by_key["p2"])


def rows_of(store: Path, table: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = open_table(Store(store), table).read().to_pylist()
    return rows


def left_of(before: dict[str, dict[str, str]], store: Path) -> dict[str, set[str]]:
    """The files that a store still has of those that it had, by folder."""
    after = files_by_folder(store)
    return {
        folder: {path for path, _ in files.items() & after.get(folder, {}).items()}
        for folder, files in before.items()
    }


def check_gone(store: Path, before: dict[str, dict[str, str]], row: dict[str, Any]) -> None:
    """Nothing that was trained with a picture is left, nor anything that names it."""
    left = left_of(before, store)
    assert not any(left[f"tables/{table}"] for table in TRAINED)
    for stage in SEARCHING:
        # Samples of other fragments have the ids of their rows; sums and means of vectors have none.
        for path in left[f"work/{stage}"]:
            assert "image_id" in pq.read_schema(store / path).names, path
    assert holding(store, [row["image_id"], row["pair_id"], row["url"]]) == {}
    assert prove(Store(store)).holds


def test_nothing_made_from_the_vectors_of_a_picture_is_left(base: Trained, tmp_path: Path) -> None:
    store = copied(base.store, tmp_path / "store")
    before = files_by_folder(store)
    forget(store, urls=[base.listed["url"]])
    run_recipe(base.spec, store)
    assert gc(store, Retention(keep=5)).left == {}
    check_gone(store, before, base.listed)
    assert not left_of(before, store)["tables/lists"]
    _, did = run_recipe(base.spec, store)
    assert all(result.up_to_date for result in did.values())
    # They are those of a store that never had the picture.
    fresh = tmp_path / "fresh"
    forget(fresh, urls=[base.listed["url"]])
    run_recipe(base.spec, fresh)
    for table in (*TRAINED, *MADE_WITH_THEM):
        rows, expected = (rows_of(each, table) for each in (store, fresh))
        # The pair that was taken down has a hash by the key of the store in place of its id.
        assert [row | {"pair_id": ""} for row in rows] == [r | {"pair_id": ""} for r in expected]


def test_what_was_trained_with_a_picture_that_left_the_pool_before_goes_too(
    base: Trained, tmp_path: Path
) -> None:
    """The versions in use kept the codebooks and centroids, and read no row of the picture."""
    store = copied(base.store, tmp_path / "store")
    before = files_by_folder(store)
    forget(store, urls=[base.unlisted["url"]])
    run_recipe(base.spec, store)
    assert gc(store, Retention(keep=5)).left == {}
    check_gone(store, before, base.unlisted)
