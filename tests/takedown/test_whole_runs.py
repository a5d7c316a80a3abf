"""Pictures that are taken down from whole runs: every table, the report, tags and kept versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.errors import RecipeError, StoreError, TakenDownError
from curation.flow import plan
from curation.inspect.lineage import trace
from curation.inspect.opt_outs import count_opt_outs
from curation.inspect.report.build import write_report
from curation.runner.gc.kept_runs import Retention
from curation.runner.gc.restore import restore_run
from curation.runner.step import run_step
from curation.runner.takedown.prove import prove
from curation.store.log_place import state_folder
from curation.store.run_log import read_runs, recorded_run
from curation.store.sealed_json import unseal
from curation.store.step_log import Waiting
from curation.store.store import Store
from curation.store.tags import add_tag, read_tags
from curation.store.tombstones import HITS, REMOVED, read_takedowns

from ..gc.helpers import gc, recipe_of, run_recipe, runs_of
from .conftest import Tiny
from .helpers import forget, holding, url_of


def rows_of(store: Path, table: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = open_table(Store(store), table).read().to_pylist()
    return rows


def image_of(tiny: Tiny, key: str) -> str:
    (row,) = [row for row in rows_of(tiny.store, "images") if row["source_key"] == key]
    return str(row["image_id"])


def test_an_image_leaves_every_table_the_report_and_a_tagged_run(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tiny.store)
    image_id = image_of(tiny, "p1")
    before = [row for row in rows_of(tiny.store, "images") if row["image_id"] == image_id]
    add_tag(store, "v1", tiny.record.run)
    texts = [image_id, *(str(row["pair_id"]) for row in before), url_of("p1")]
    assert len(holding(tiny.store, texts)) > 10
    done = forget(store, images=[image_id])
    assert done.hits.rows["images"] == 1
    assert done.reports == 1
    check_readers(tiny, image_id)

    _, did = run_recipe(tiny.recipe, Store(tiny.store))
    assert (did["fetch"].computed, did["fetch"].reused) == (1, 3)
    assert (did["embed"].computed, did["embed"].reused) == (1, 3)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    state_folder().mkdir(parents=True)
    for record in read_runs(store):
        # A library may have said where it failed, in the log file of any run.
        store.storage.write(f"logs/{record.run}.log", url_of("p1").encode())
        (state_folder() / f"{record.run}.log").touch()
    add_tag(store, "v2", next(iter(read_runs(store))).run)
    # Longer than any file is old, and a tag: neither saves it.
    collected = gc(tiny.store, Retention(keep=5))
    assert tiny.record.run in collected.removed
    assert [tag.name for tag in read_tags(store)] == ["v2"]
    assert add_tag(store, "v1", next(iter(read_runs(store))).run).run != tiny.record.run
    assert collected.taken_down["images"] == 1
    assert collected.left == {}
    assert holding(tiny.store, texts) == {} and not [*state_folder().iterdir()]
    assert prove(Store(tiny.store)).holds
    content = store.storage.read(max(store.storage.files(REMOVED)))
    assert content is not None and unseal(content)["removed"] == collected.taken_down
    _, did = run_recipe(tiny.recipe, Store(tiny.store))
    assert all(result.up_to_date for result in did.values())
    assert write_report(recipe_of(tiny.recipe), Store(tiny.store))
    assert prove(Store(tiny.store)).holds


def test_the_log_of_a_run_that_worked_while_rows_were_taken_down_goes_when_it_has_ended(
    tiny: Tiny,
) -> None:
    store = Store(tiny.store)
    with recorded_run(store, "other", "0") as working:
        log = f"logs/{working.record.run}.log"
        store.storage.write(log, url_of("p1").encode())
        add_tag(store, "v1", working.record.run)
        forget(store, urls=[url_of("p1")])
        run_recipe(tiny.recipe, Store(tiny.store))
        assert gc(tiny.store).left == {}
        assert store.storage.status(log) is not None
    gc(tiny.store, Retention(keep=5))
    assert store.storage.status(log) is None


def check_readers(tiny: Tiny, image_id: str) -> None:
    """Readers of one table do not get the rows; those of several, and programs, get none at all."""
    store = Store(tiny.store)
    for table in tiny.record.tables:
        shown = open_table(store, table).read()
        assert image_id not in str(shown.to_pylist())
    assert open_table(store, "pairs").read().num_rows == 11
    with pytest.raises(StoreError, match="taken down"):
        trace(recipe_of(tiny.recipe), store)
    with pytest.raises(StoreError, match=r"taken down|missing"):
        restore_run(store, tiny.record, Waiting(wait=False))
    assert store.storage.files("open/tiny/images", recursive=True) == {}
    with pytest.raises(StoreError, match="taken down"):
        embed(tiny)


def embed(tiny: Tiny) -> None:
    """Run one step alone, on tables that were not made anew."""
    (step,) = [s for s in plan(recipe_of(tiny.recipe)) if s.name == "embed"]
    run_step(step, Store(tiny.store), InProcess())


def test_the_next_copy_is_kept_where_one_url_alone_objects(tiny: Tiny) -> None:
    copies = {str(row["pair_id"]): row for row in rows_of(tiny.store, "copies")}
    pairs = {str(row["source_key"]): str(row["pair_id"]) for row in rows_of(tiny.store, "pairs")}
    first, other = sorted(
        ["p0", "again"], key=lambda k: copies[pairs[k]]["method"] != "representative"
    )
    assert copies[pairs[other]]["representative_pair_id"] == pairs[first]
    forget(tiny.store, urls=[url_of(first)])
    run_recipe(tiny.recipe, Store(tiny.store))
    after = {str(row["pair_id"]): row for row in rows_of(tiny.store, "copies")}
    assert pairs[first] not in after
    assert after[pairs[other]]["method"] == "representative"
    assert after[pairs[other]]["image_id"] == copies[pairs[other]]["image_id"]
    gc(tiny.store)
    assert holding(tiny.store, [pairs[first], url_of(first)]) == {}
    assert prove(Store(tiny.store)).holds


def test_a_row_that_another_one_lists_as_its_copy_is_not_shown(tiny: Tiny) -> None:
    lists = open_table(Store(tiny.store), "copies").read().column("copies").to_pylist()
    (listed,) = [copy for copies in lists for copy in copies or []]
    assert listed["url"] in (url_of("p0"), url_of("again"))
    forget(tiny.store, urls=[listed["url"]])
    for table in tiny.record.tables:
        shown = str(rows_of(tiny.store, table))
        assert listed["url"] not in shown and listed["pair_id"] not in shown


def test_a_run_that_is_not_restored_keeps_nothing(tiny: Tiny) -> None:
    store = Store(tiny.store)
    forget(store, urls=[url_of("p1")])
    run_recipe(tiny.recipe, Store(tiny.store))
    runs = runs_of(tiny.store)
    with pytest.raises(TakenDownError, match="do not come back"):
        restore_run(Store(tiny.store), tiny.record, Waiting())
    assert gc(tiny.store).left == {}
    assert runs_of(tiny.store) == runs[:1]
    assert prove(Store(tiny.store)).holds


def test_a_search_that_was_interrupted_stops_runs_and_readers_until_gc(tiny: Tiny) -> None:
    store = Store(tiny.store)
    forget(store, urls=[url_of("p2")])
    store.storage.delete(store.storage.files(HITS))
    with pytest.raises(StoreError, match="has not ended"):
        open_table(Store(tiny.store), "dataset")
    with pytest.raises(StoreError, match="has not ended"):
        run_recipe(tiny.recipe, Store(tiny.store))
    with pytest.raises(StoreError, match="has not ended"):
        prove(Store(tiny.store))
    gc(tiny.store)
    assert url_of("p2") not in str(rows_of(tiny.store, "pairs"))
    assert len(rows_of(tiny.store, "pairs")) == 11


def test_opt_outs_are_counted_where_all_rows_of_a_file_are_gone(tiny: Tiny) -> None:
    forget(tiny.store, hosts=["pictures.example"])
    counted = count_opt_outs(open_table(Store(tiny.store), "images"))
    assert counted.rows == len(rows_of(tiny.store, "images")) == 3


def test_a_tombstone_says_who_when_and_why_and_holds_nothing_else(tiny: Tiny) -> None:
    image_id = image_of(tiny, "p3")
    done = forget(tiny.store, urls=[url_of("p2")], images=[image_id], hosts=["other.example"])
    takedowns = read_takedowns(Store(tiny.store).storage)
    assert takedowns is not None
    (tombstone,) = takedowns.tombstones
    assert (tombstone.by, tombstone.reason) == ("the owner", "request 17")
    assert tombstone.name == done.tombstone.name
    texts = [url_of("p2"), image_id, "other.example", "pictures.example"]
    assert holding(tiny.store / "tombstones", texts) == {}
    assert takedowns.has_url("https://pictures.example/p2/photo.jpg")
    assert takedowns.has_url("https://a.other.example/x")
    assert not takedowns.has_url("https://another.example/x")


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"urls": ["ftp://a.example/x"]},
        {"hosts": ["https://a.example/"]},
        {"hosts": ["a.example", "example"]},
        {"images": ["abc"]},
        {"likes": [Path(__file__)]},
    ],
)
def test_what_has_no_valid_form_is_refused(tiny: Tiny, named: dict[str, list[object]]) -> None:
    with pytest.raises(RecipeError):
        forget(tiny.store, **named)
    assert read_takedowns(Store(tiny.store).storage) is None


def test_a_recipe_that_was_renamed_keeps_nothing_once_it_is_dropped(tiny: Tiny) -> None:
    """Nobody runs it again under its old name, and a tag does not save it either."""
    forget(tiny.store, urls=[url_of("p1")])
    renamed = {**tiny.recipe, "name": "renamed"}
    record, _ = run_recipe(renamed, tiny.store)
    add_tag(Store(tiny.store), "v1", tiny.record.run)
    assert gc(tiny.store).left and not prove(Store(tiny.store)).holds
    with pytest.raises(RecipeError, match=r"did you mean 'tiny'.*Valid: renamed, tiny"):
        gc(tiny.store, Retention(dropped=frozenset({"tin"})))
    collected = gc(tiny.store, Retention(dropped=frozenset({"tiny"})))
    assert (collected.removed, collected.left) == ((tiny.record.run,), {})
    assert read_tags(Store(tiny.store)) == []
    assert prove(Store(tiny.store)).holds
    assert Store(tiny.store).storage.folders("open") == ["renamed"]
    assert [run.run for run in read_runs(Store(tiny.store))] == [record.run]
