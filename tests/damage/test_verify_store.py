"""`curation verify-store` names what is damaged, and changes nothing unless it is asked to."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from curation.cli import app
from curation.engine.table import open_table
from curation.errors import StoreError
from curation.flow import plan
from curation.launch import verify_inputs
from curation.recipe import parse_recipe
from curation.runner.gc.restore import restore_run
from curation.store.access import set_aside_fix
from curation.store.run_log import read_runs
from curation.store.step_log import Waiting
from curation.store.store import Store
from curation.store.tags import add_tag
from curation.store.verification import verify_store

from .conftest import Finished
from .finished import delete, flip, run_recipe, tables_of, truncate


@pytest.fixture
def store(finished: Finished, tmp_path: Path) -> Store:
    """A copy of the finished run."""
    opened: Store = finished.copy(tmp_path / "store")
    return opened


def content(store: Store) -> dict[str, bytes]:
    paths = store.storage.files("", recursive=True)
    return {path: Path(store.uri, path).read_bytes() for path in paths}


def file_of(store: Store, table: str, number: int = 0) -> str:
    record = open_table(store, table).manifest.fragments[number]
    return record.files[0].path


def verify(store: Store, *options: str) -> Result:
    return CliRunner().invoke(app, ["verify-store", "--store", store.uri, *options])


def test_an_intact_store_has_no_problem(store: Store) -> None:
    result = verify(store)
    assert (result.exit_code, result.output.strip()) == (
        0,
        "Every file has the recorded size and checksum.",
    )
    assert verify(store, "--json").stdout.strip() == "[]"


def test_each_problem_has_table_version_fragment_file_and_a_command(store: Store) -> None:
    paths = {table: file_of(store, table) for table in ("images", "scores", "dataset")}
    for path, damage in zip(paths.values(), (flip, delete, truncate), strict=True):
        damage(Path(store.uri, path))
    before = content(store)
    result = verify(store, "--json")
    assert result.exit_code == 1
    problems = {problem["path"]: problem for problem in json.loads(result.stdout)}
    assert problems.keys() == set(paths.values())
    words = {"images": "other bytes", "scores": "missing", "dataset": "bytes instead of"}
    for table, path in paths.items():
        manifest = open_table(store, table).manifest
        problem = problems[path]
        assert (problem["table"], problem["versions"]) == (table, [manifest.version])
        assert problem["fragments"] == [manifest.fragments[0].name]
        assert words[table] in problem["problem"]
        assert problem["recipe"] == "shapes"
        assert f"curation run RECIPE.yaml --store {store.uri}" in problem["remedy"]
        aside = f"curation verify-store --store {store.uri} --table {table} --set-aside"
        assert problem["remedy"].startswith(aside) == (table != "scores")
    assert content(store) == before


def test_the_text_says_the_same(store: Store) -> None:
    path = file_of(store, "images")
    flip(Path(store.uri, path))
    result = verify(store)
    text = " ".join(result.output.split())
    version = open_table(store, "images").manifest.version
    for part in (path, "table images", version, "other bytes", "--set-aside, then curation run"):
        assert part in text, text


def test_a_shell_takes_the_command_of_an_error_for_any_store() -> None:
    uri = "/data/it's a store"
    command = set_aside_fix(uri, "run curation gc").partition("(")[2].rpartition(")")[0]
    assert shlex.split(command) == ["curation", "verify-store", "--set-aside", "--store", uri]


def test_the_command_that_mends_it_works(finished: Finished, store: Store) -> None:
    path = file_of(store, "claims")
    flip(Path(store.uri, path))
    (problem,) = verify_store(store)
    command, _, _ = problem.remedy(store.uri).partition(", then ")
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 1
    assert not Path(store.uri, path).exists()
    assert Path(store.uri, f"{path}.damaged").exists()
    run_recipe(finished.spec, store)
    assert verify_store(store) == []
    assert tables_of(finished.spec, store) == finished.tables


def test_a_damaged_file_of_the_dataset_leaves_the_folder_that_people_open(store: Store) -> None:
    path = file_of(store, "dataset")
    flip(Path(store.uri, path))
    (problem,) = verify_store(store, set_aside=True)
    assert problem.to_set_aside[0] == path
    assert all(Path(store.uri, moved).exists() for moved in problem.set_aside)
    assert list(Path(store.uri, path).parent.iterdir()) == []


def test_a_lost_work_table_that_no_run_needs_is_reported_once(
    finished: Finished, store: Store
) -> None:
    """Running again has no reason to compute it, so its record is set aside as well."""
    path = next(iter(store.storage.files("work/verify/data")))
    Path(store.uri, path).unlink()
    (problem,) = verify_store(store)
    assert "--table work/verify --set-aside" in problem.remedy(store.uri)
    run_recipe(finished.spec, store)
    assert [p.path for p in verify_store(store, set_aside=True)] == [path]
    assert verify_store(store) == []
    run_recipe(finished.spec, store)
    assert tables_of(finished.spec, store) == finished.tables


def test_files_that_nothing_names_are_left_alone(store: Store) -> None:
    for folder in ("tables/images/data", "dataset/other", "work/verify/data"):
        store.storage.write(f"{folder}/unnamed.parquet", b"of a run that was killed")
    before = content(store)
    assert verify_store(store, set_aside=True) == []
    assert content(store) == before


def test_only_the_named_tables_are_checked(store: Store) -> None:
    for table in ("images", "scores"):
        flip(Path(store.uri, file_of(store, table)))
    work = next(iter(store.storage.files("work/verify/data")))
    flip(Path(store.uri, work))
    result = verify(store, "--table", "images", "--table", "work/verify", "--json")
    assert [p["table"] for p in json.loads(result.stdout)] == ["images", "work/verify"]
    assert verify(store, "--table", "scores").exit_code == 1
    assert verify(store, "--table", "pairs").exit_code == 0


def test_a_table_that_is_not_there_is_an_error_that_lists_those_that_are(store: Store) -> None:
    result = verify(store, "--table", "imags")
    assert "unknown table 'imags'" in str(result.exception)
    assert "images, " in str(result.exception)


def test_verify_sets_aside_what_the_run_would_read(finished: Finished, store: Store) -> None:
    """The damage is in tables that a run with nothing to do would not read."""
    paths = [file_of(store, "images"), next(iter(store.storage.files("work/verify/data")))]
    for path in paths:
        flip(Path(store.uri, path))
    steps = plan(parse_recipe(finished.spec))
    assert sorted(p.path for p in verify_inputs(steps, store)) == sorted(paths)
    run_recipe(finished.spec, store)
    assert verify_inputs(steps, store) == []
    assert tables_of(finished.spec, store) == finished.tables


def test_verify_leaves_alone_what_the_run_does_not_read(finished: Finished, store: Store) -> None:
    flip(Path(store.uri, file_of(store, "dataset")))
    steps = [step for step in plan(parse_recipe(finished.spec)) if step.name == "select"]
    assert verify_inputs(steps, store) == []
    flip(Path(store.uri, file_of(store, "scores")))
    assert [p.table for p in verify_inputs(steps, store)] == ["scores"]


def test_what_only_an_earlier_run_names_is_mended_by_its_recipe_or_given_up(
    finished: Finished, store: Store
) -> None:
    """Its recipe as it is now reads other versions, so running that would mend nothing."""
    path = file_of(store, "claims")
    first = next(run for run in read_runs(store) if run.state == "finished")
    add_tag(store, "v1", first.run)
    Path(store.uri, path).unlink()
    spec = finished.spec | {"retrieve": [finished.spec["retrieve"][0] | {"k": 1}]}
    run_recipe(spec, store)
    with pytest.raises(StoreError, match="is not whole"):
        restore_run(store, first, Waiting())
    (problem,) = verify_store(store)
    remedy = problem.remedy(store.uri)
    assert f"(recipe 'shapes' as it was in run {first.run}); or give the run up: " in remedy
    assert problem.tags == ("v1",)
    given_up = remedy.partition("give the run up: ")[2].split(", ")
    run_recipe(finished.spec, store)
    assert verify_store(store) == []
    Path(store.uri, file_of(store, "claims")).unlink()
    run_recipe(spec, store)
    for command in given_up:
        options = ["--grace", "0s"] if command.startswith("curation gc") else []
        done = CliRunner().invoke(app, [*shlex.split(command)[1:], *options])
        assert done.exit_code == 0, done.output
    assert verify_store(store) == []
