"""Every table of a run, opened by its folder: the rows of the current version, in their order."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyiceberg.table import StaticTable
from typer.testing import CliRunner

from curation.cli.app import app
from curation.engine.contract import contract
from curation.engine.table import Table, open_table
from curation.errors import StoreError
from curation.inspect.open_folder import open_folder
from curation.store.store import Store

from ..e2e.small import build_small, write_rows
from ..runs import run_recipe
from .readers import READERS, Rows, as_read

ODD_NAME = "st ore%20#1=ü+&x"


def run(spec: dict[str, Any], store: Store, recipe: str = "small") -> None:
    run_recipe(spec | {"name": recipe}, store)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Store]:
    folder = tmp_path_factory.mktemp("open")
    spec = build_small(folder / "web")
    pool = folder / "web" / "pool" / "a.parquet"
    few = pq.read_table(pool).to_pylist()[:24]
    write_rows(pool, [*few, *(row | {"key": f"copy of {row['key']}"} for row in few[:6])])
    spec["ingest"] = {"rows_per_fragment": 20}
    # Without it, `verified` has no rows.
    spec["dedup"]["verify"] = None
    store = Store(folder / ODD_NAME)
    run(spec, store)
    return spec, store


@pytest.fixture
def copied(finished: tuple[dict[str, Any], Store], tmp_path: Path) -> tuple[dict[str, Any], Store]:
    """The finished run in a store of its own, at another address."""
    spec, store = finished
    shutil.copytree(store.uri, tmp_path / "copy", symlinks=True)
    return spec, Store(tmp_path / "copy")


def folder_of(store: Store, table: str, recipe: str = "small") -> str:
    return f"{store.uri}/open/{recipe}/{table}"


def rows_of(table: Table) -> Rows:
    rows: Rows = table.read().to_pylist()
    return rows


@pytest.mark.parametrize("reader", READERS)
def test_each_reader_gets_the_rows_of_every_table_in_their_order(
    finished: tuple[dict[str, Any], Store], reader: str
) -> None:
    _, store = finished
    tables = store.tables()
    assert {"embeddings.semantic", "dataset", "claims", "lists"} <= set(tables)
    expected = {name: rows_of(open_table(store, name)) for name in tables}
    assert not expected["verified"]
    assert {row["copies"] is None for row in expected["copies"]} == {True, False}
    for name, rows in expected.items():
        assert READERS[reader](folder_of(store, name)) == as_read(reader, rows), name


def test_the_metadata_documents_the_table(finished: tuple[dict[str, Any], Store]) -> None:
    _, store = finished
    table = open_table(store, "dataset")
    opened = StaticTable.from_metadata(folder_of(store, "dataset"))
    terms = contract("dataset")
    docs = {column.name: column.doc for column in terms.columns}
    for field in opened.schema().fields:
        assert (field.doc or "").startswith(docs[field.name])
        assert field.required == (
            not next(c for c in terms.columns if c.name == field.name).nullable
        )
    properties = opened.properties
    assert properties["comment"] == terms.grain
    assert properties["curation.version"] == table.manifest.version
    assert store.storage.read(properties["curation.manifest"])
    assert store.storage.read(f"runs/{properties['curation.run']}.json")
    assert properties["gc.enabled"] == "false"
    scores = StaticTable.from_metadata(folder_of(store, "scores")).schema()
    assert {f.name for f in scores.fields} > set(contract("scores").names)
    assert all(field.doc for field in scores.fields)


@pytest.mark.parametrize("reader", READERS)
def test_after_a_change_readers_get_only_the_current_rows(
    copied: tuple[dict[str, Any], Store], reader: str
) -> None:
    spec, store = copied
    before = rows_of(open_table(store, "claims"))
    run(spec | {"retrieve": spec["retrieve"][:2]}, store)
    after = rows_of(open_table(store, "claims"))
    assert 0 < len(after) < len(before)
    assert READERS[reader](folder_of(store, "claims")) == as_read(reader, after)
    run(spec, store)
    assert READERS[reader](folder_of(store, "claims")) == before


def test_recipes_on_one_store_have_folders_of_their_own(
    copied: tuple[dict[str, Any], Store],
) -> None:
    spec, store = copied
    run(spec | {"retrieve": spec["retrieve"][:2]}, store, "other")
    other = rows_of(open_table(store, "claims"))
    run(spec, store)
    both = READERS["polars"](folder_of(store, "claims", "small"))
    assert READERS["polars"](folder_of(store, "claims", "other")) == other
    assert both == rows_of(open_table(store, "claims"))
    assert len(both) > len(other)


def test_a_moved_store_opens_again_after_the_next_run(
    copied: tuple[dict[str, Any], Store], finished: tuple[dict[str, Any], Store]
) -> None:
    spec, store = copied
    place = folder_of(store, "images")
    expected = rows_of(open_table(store, "images"))
    named = StaticTable.from_metadata(place).scan().plan_files()
    assert not any(Path(task.file.file_path).is_relative_to(store.uri) for task in named)
    with pytest.raises(StoreError, match="the store was moved or copied since"):
        cli("path", "images", "--store", store.uri, "--dir")
    run(spec, store)
    named = StaticTable.from_metadata(place).scan().plan_files()
    assert all(Path(task.file.file_path).is_relative_to(store.uri) for task in named)
    assert READERS["pyiceberg"](place) == expected


def test_a_lost_folder_is_written_again_though_every_table_is_up_to_date(
    copied: tuple[dict[str, Any], Store],
) -> None:
    spec, store = copied
    store.storage.delete_folder("open")
    run(spec, store)
    for name in store.tables():
        assert READERS["polars"](folder_of(store, name)) == rows_of(open_table(store, name))


def test_a_lost_data_file_that_is_computed_again_is_named_again(
    copied: tuple[dict[str, Any], Store],
) -> None:
    spec, store = copied
    table = open_table(store, "scores")
    expected = rows_of(table)
    store.storage.delete([table.manifest.fragments[0].files[0].path])
    run(spec, store)
    assert READERS["pyiceberg"](folder_of(store, "scores")) == expected


def cli(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_the_commands_print_the_folder(copied: tuple[dict[str, Any], Store]) -> None:
    spec, store = copied
    run(spec, store)
    place = folder_of(store, "claims")
    assert cli("path", "claims", "--store", store.uri, "--dir").strip() == place
    shown = cli("show", "claims", "--store", store.uri)
    assert place in shown.replace("\n", "")
    assert f"FROM iceberg_scan('{place}')" in shown.replace("\n", "")
    dataset = cli("path", "dataset", "--store", store.uri, "--dir").strip()
    assert dataset == f"{store.uri}/dataset/{open_table(store, 'dataset').manifest.version}"


def test_a_version_that_is_not_the_current_one_has_no_folder(
    copied: tuple[dict[str, Any], Store],
) -> None:
    spec, store = copied
    run(spec, store)
    before = open_table(store, "claims").manifest.version
    run(spec | {"retrieve": spec["retrieve"][:2]}, store)
    now = open_table(store, "claims").manifest.version
    place = folder_of(store, "claims")
    with pytest.raises(StoreError, match=f"{before}.*opens version {now}"):
        cli("path", "claims", "--store", store.uri, "--dir", "--version", before[:8])
    assert cli("path", "claims", "--store", store.uri, "--dir", "--version", now).strip() == place
    assert "opens version" in cli("show", "claims", "--store", store.uri, "--version", before)


def test_the_folder_is_that_of_the_recipe_of_the_run(copied: tuple[dict[str, Any], Store]) -> None:
    spec, store = copied
    run(spec, store)
    run(spec, store, "other")
    table = open_table(store, "claims")
    assert open_folder(table) == folder_of(store, "claims", "other")
    first, second = sorted(store.storage.files("runs"))[-2:]
    names = [path.removeprefix("runs/").removesuffix(".json") for path in (first, second)]
    assert open_folder(table, run=names[0]) == folder_of(store, "claims", "small")
    assert open_folder(table, run=names[1]) == folder_of(store, "claims", "other")
    with pytest.raises(StoreError, match="no run has made it"):
        open_folder(Table(store, replace(table.manifest, version="0" * 32)), any_recipe=True)
