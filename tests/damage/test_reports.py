"""A report that is damaged is reported, and written anew by a run that has nothing else to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from curation.inspect.lineage import trace
from curation.inspect.report.build import write_report
from curation.inspect.report.place import finished_report
from curation.recipe import Recipe, parse_recipe
from curation.runner.gc.collect import collect
from curation.runner.gc.kept_runs import Retention
from curation.store.problem import Problem
from curation.store.store import Store
from curation.store.verification import verify_store

from .conftest import Finished
from .finished import DAMAGES

FILES = ("report.html", "composition.parquet", "made-from.json", "checksums.json")


@pytest.fixture(scope="module")
def with_report(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a report."""
    folder = tmp_path_factory.mktemp("reported") / "store"
    write_report(parse_recipe(finished.spec), finished.copy(folder))
    return Path(folder)


@pytest.fixture
def reported(with_report: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(with_report, tmp_path / "store"))


def write_if_needed(recipe: Recipe, store: Store) -> str:
    """Write the report as a run does that has nothing to do; return its path."""
    return finished_report(recipe, trace(recipe, store), store) or write_report(recipe, store)


def problems_with_reports(store: Store, set_aside: bool = False) -> list[Problem]:
    problems = verify_store(store, ["dataset"], set_aside)
    return [problem for problem in problems if problem.path.startswith("reports/")]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_report_is_reported_and_written_anew(
    finished: Finished, reported: Path, name: str, damage: str
) -> None:
    store, recipe = Store(reported), parse_recipe(finished.spec)
    folder, path = reported, write_if_needed(recipe, store)
    whole = {each: (folder / path).with_name(each).read_bytes() for each in FILES}
    DAMAGES[damage]((folder / path).with_name(name))
    problems = problems_with_reports(store, set_aside=True)
    # Without the checksums, nobody knows that the report was written to its end.
    expected = [] if damage == "delete" and name.endswith(".json") else [name]
    assert [Path(problem.path).name for problem in problems] == expected
    assert all(problem.recipe == recipe.name and problem.table == "dataset" for problem in problems)
    assert write_if_needed(recipe, store) == path
    assert problems_with_reports(store) == []
    assert (folder / path).read_bytes()[:15] == whole["report.html"][:15]
    assert (folder / path).with_name("composition.parquet").read_bytes() == (
        whole["composition.parquet"]
    )
    collect(store, Retention(grace_s=0.0))
    assert {p.name for p in (folder / path).parent.iterdir()} == set(FILES)


@pytest.mark.parametrize("name", ["report.html", "composition.parquet"])
@pytest.mark.parametrize("damage", ["delete", "truncate", "empty"])
def test_a_report_that_is_cut_short_is_written_anew_without_being_asked(
    finished: Finished, reported: Path, name: str, damage: str
) -> None:
    store, recipe = Store(reported), parse_recipe(finished.spec)
    folder, path = reported, write_if_needed(recipe, store)
    DAMAGES[damage]((folder / path).with_name(name))
    assert write_if_needed(recipe, store) == path
    assert problems_with_reports(store) == []
