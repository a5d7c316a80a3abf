"""The current tables of a recipe whose latest run stopped early: none are mixed without a word."""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import curation
from curation.errors import StoreError
from curation.inspect.current import CurrentTables
from curation.inspect.current_search import search_current
from curation.store.store import Store

from ..e2e.small import write_rows
from ..gc.helpers import copied, edited, run_recipe
from .conftest import Made, recipe_with_urls


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A store with a whole run, and one on a changed list that ended after the pictures."""
    folder = tmp_path_factory.mktemp("partial")
    spec = recipe_with_urls(folder / "web")
    first, _ = run_recipe(spec, folder / "store")
    path = folder / "web" / "pool" / "a.parquet"
    write_rows(path, pq.read_table(path).to_pylist()[::-1])
    second, _ = run_recipe(spec, folder / "store", until="embed")
    assert first.tables["images"] != second.tables["images"]
    return Made(folder / "store", spec, first, second)


def test_readers_of_several_tables_row_by_row_refuse(partial: Made) -> None:
    tables = CurrentTables(Store(partial.store))
    with pytest.raises(StoreError, match=r"search would mix two versions of table.*--run"):
        search_current(tables)
    with curation.open(partial.store) as store, pytest.raises(StoreError, match="why would mix"):
        store.why("p1")


@pytest.mark.parametrize("which", ["first", "second"])
def test_the_tables_of_one_run_are_read(partial: Made, which: str) -> None:
    run = getattr(partial, which).run
    with curation.open(partial.store, run=run) as store:
        assert store.why("p1").found == 1
        assert "mix" not in store._repr_html_()


def test_a_query_on_tables_that_do_not_belong_together_warns(
    partial: Made, caplog: pytest.LogCaptureFixture
) -> None:
    with curation.open(partial.store) as store:
        for query in (
            "SELECT count(*) FROM dataset",
            "SELECT count(*) FROM pairs JOIN images USING (pair_id)",
            "SELECT count(*) FROM claims JOIN eligible USING (pair_id)",
        ):
            store.sql(query).fetchall()
            assert caplog.text == ""
        for _ in range(2):
            store.sql("SELECT count(*) FROM images JOIN claims USING (image_id)").fetchall()
    mixed = [r for r in caplog.records if r.levelno == logging.WARNING and "mix" in r.getMessage()]
    assert len(mixed) == 1
    assert "two versions of table 'pairs'" in mixed[0].getMessage()


def test_tables_of_earlier_runs_that_belong_to_the_latest_one_are_read(
    made: Made, tmp_path: Path
) -> None:
    """The same list, run again up to some stage: all that follows was made from the same."""
    copied(made.store, tmp_path / "store")
    run_recipe(edited(made.recipe), tmp_path / "store", until="embed")
    with curation.open(tmp_path / "store") as store:
        assert store.why("p1").found == 1
        assert search_current(CurrentTables(Store(tmp_path / "store"))).nearest is not None
