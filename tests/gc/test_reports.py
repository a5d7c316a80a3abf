"""Reports of runs that lead to the same dataset: each run has its own, as long as it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curation.inspect.lineage import trace
from curation.inspect.report.build import write_report
from curation.inspect.report.place import finished_report
from curation.store.store import Store

from ..ingest.helpers import write
from ..takedown.helpers import forget
from .helpers import build_tiny, copied, edited, gc, recipe_of, run_recipe


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A store with a run of a recipe, and the same recipe by another name."""
    folder = tmp_path_factory.mktemp("reports")
    spec = build_tiny(folder / "web")
    for name in ("a", "b"):
        run_recipe(edited(spec, name=name), folder / "store")
    return folder, spec


def reports_of(store: Store) -> list[str]:
    """The paths of all reports."""
    paths = store.storage.files("reports", recursive=True)
    return sorted(path for path in paths if path.endswith("report.html"))


def test_two_recipes_with_one_dataset_have_two_reports(
    base: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, spec = base
    store = Store(copied(folder / "store", tmp_path / "store"))
    recipes = {name: recipe_of(edited(spec, name=name)) for name in "ab"}
    paths = {name: write_report(recipe, store) for name, recipe in recipes.items()}
    # Written again, in another order, they are where they were.
    assert {name: write_report(recipes[name], store) for name in "ba"} == paths
    assert reports_of(store) == sorted(paths.values()) and paths["a"] != paths["b"]
    for name, recipe in recipes.items():
        text = (store.storage.read(paths[name]) or b"").decode()
        assert f"name: {name}\n" in text
        assert finished_report(recipe, trace(recipe, store), store) == paths[name]
    (version,) = store.versions("dataset")
    assert paths["a"] == f"reports/{version}/report.html"
    gc(store)
    assert reports_of(store) == sorted(paths.values())


@pytest.mark.nightly
def test_a_run_on_other_sources_with_the_same_dataset_has_a_report_of_its_own(
    tmp_path: Path,
) -> None:
    spec, store = build_tiny(tmp_path / "web"), Store(tmp_path / "store")
    recipe = recipe_of(spec)
    first, _ = run_recipe(spec, store)
    path = write_report(recipe, store)
    before = store.storage.read(path)
    broken = {"key": "broken", "image": b"no picture", "caption": "none"}
    write(tmp_path / "web" / "pool" / "b.parquet", [broken])
    second, _ = run_recipe(spec, store)
    assert first.tables["dataset"] == second.tables["dataset"]
    assert finished_report(recipe, trace(recipe, store), store) is None
    # A later run of the same recipe by another name is not its latest run.
    third, _ = run_recipe(edited(spec, name="copy"), store)
    assert third.fingerprint == second.fingerprint
    other = write_report(recipe, store)
    assert other == write_report(recipe, store, second.run)
    assert other != path and store.storage.read(path) == before
    assert write_report(recipe, store, first.run) == path
    assert write_report(recipe, store) == other
    image = next(iter(trace(recipe, store)["images"].read(["image_id"]).column(0).to_pylist()))
    assert forget(store, images=[image]).reports == 2
    assert reports_of(store) == []
