"""Rows that are taken down while others write what holds them: reports and folders that open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from curation.engine.iceberg import published
from curation.errors import StoreError, TakenDownError
from curation.inspect.report.build import write_report
from curation.runner.gc.restore import restore_run
from curation.store.step_log import Waiting
from curation.store.storage.local import LocalStorage
from curation.store.store import Store

from ..gc.helpers import copied, edited, gc, recipe_of, run_recipe
from .conftest import Tiny
from .helpers import forget, holding, url_of


class Interrupted(LocalStorage):
    """A disk on which something happens once, before a file whose path has a text is written."""

    def __init__(self, root: Path, text: str, act: Callable[[], object]) -> None:
        super().__init__(root)
        self.text, self.act, self.happened = text, act, False

    def _before(self, path: str) -> None:
        if self.text in path and not self.happened:
            self.happened = True
            self.act()

    def write(self, path: str, content: bytes) -> None:
        """See `Storage.write`."""
        self._before(path)
        super().write(path, content)

    def create(self, path: str, content: bytes) -> bool:
        """See `Storage.create`."""
        self._before(path)
        return super().create(path, content)


class Reading(LocalStorage):
    """A disk that notes which manifests are read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.manifests: list[str] = []

    def read(self, path: str) -> bytes | None:
        """See `Storage.read`."""
        if "/versions/" in path:
            self.manifests.append(path)
        return super().read(path)


def take_down(tiny: Tiny, text: str) -> Store:
    """A store on which a picture is taken down in the moment before a file is written."""

    def act() -> object:
        return forget(tiny.store, urls=[url_of("p3")])

    return Store(tiny.store, Interrupted(tiny.store, text, act))


def reports_of(store: Path) -> list[Path]:
    return [*store.glob("reports/*/report.html"), *store.glob("reports/*/composition.parquet")]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("made-from.json", marks=pytest.mark.nightly),
        pytest.param("composition.parquet", marks=pytest.mark.nightly),
        "report.html",
    ],
)
def test_a_report_that_is_being_written_is_deleted(tiny: Tiny, text: str) -> None:
    for path in reports_of(tiny.store):
        path.unlink()
    (owner,) = tiny.store.glob("reports/*/made-from.json")
    owner.unlink()
    with pytest.raises(StoreError, match="taken down while this report was written"):
        write_report(recipe_of(tiny.recipe), take_down(tiny, text))
    assert reports_of(tiny.store) == []
    run_recipe(tiny.recipe, Store(tiny.store))
    assert write_report(recipe_of(tiny.recipe), Store(tiny.store))
    assert not {p for p in holding(tiny.store, [url_of("p3")]) if p.startswith("reports/")}


MOMENTS = ("open/tiny/pairs/", "open/tiny/images/metadata/v", "open/tiny/dataset/", "-published")
SAMPLED = (("run", "open/tiny/dataset/"), ("restore", "open/tiny/images/metadata/v"))
CASES = [
    pytest.param(work, text, marks=[] if (work, text) in SAMPLED else [pytest.mark.nightly])
    for work in ("run", "restore")
    for text in MOMENTS
]


@pytest.mark.parametrize(("work", "text"), CASES)
def test_no_folder_opens_what_was_taken_down_while_it_was_published(
    tiny: Tiny, tmp_path: Path, text: str, work: str
) -> None:
    """The store has moved, so each table is published again."""
    moved = Tiny(copied(tiny.store, tmp_path / "moved"), tiny.recipe, tiny.record)
    store = take_down(moved, text)
    with pytest.raises(TakenDownError, match="were published"):
        if work == "run":
            run_recipe(moved.recipe, store)
        else:
            restore_run(store, moved.record, Waiting(wait=False))
    assert withheld_folders(moved.store) == []


def withheld_folders(path: Path) -> list[str]:
    """The tables that other programs open with what was taken down."""
    store, tables = Store(path), []
    for opened in published(store):
        manifest = store.manifest(opened.table, opened.version)
        assert manifest is not None
        tables += [opened.table] if store.is_withheld(manifest) else []
    return tables


def test_gc_closes_what_a_command_left_open_that_was_interrupted(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(store: Store) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("curation.runner.gc.forget.delete_reports", interrupt)
    with pytest.raises(KeyboardInterrupt):
        forget(tiny.store, urls=[url_of("p3")])
    assert reports_of(tiny.store) and withheld_folders(tiny.store)
    gc(tiny.store)
    assert reports_of(tiny.store) == [] and withheld_folders(tiny.store) == []


def test_a_report_goes_though_another_run_with_the_same_dataset_has_no_such_row(
    tiny: Tiny,
) -> None:
    """A report shows what was dropped, too, and may be that of any run with its dataset."""
    store = Store(tiny.store)
    spec = edited(tiny.recipe, select={"min_side": {"at_least": 70}})
    record, _ = run_recipe(spec, store)
    assert record.tables["pairs"] == tiny.record.tables["pairs"]
    write_report(recipe_of(spec), store)
    folders = {path.parent for path in reports_of(tiny.store)}
    assert forget(store, urls=[url_of("p3")]).reports == len(folders)
    assert reports_of(tiny.store) == []


def test_each_manifest_is_read_a_bounded_number_of_times(tiny: Tiny) -> None:
    """Runs share versions, and manifests may name 130,000 files."""
    for _ in range(6):
        run_recipe(tiny.recipe, Store(tiny.store))
    storage = Reading(tiny.store)
    forget(Store(tiny.store, storage), urls=[url_of("p3")])
    assert max(map(storage.manifests.count, storage.manifests)) <= 4
