"""Commands that are killed between two changes of a store: nothing is lost, and again they end well."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from curation.engine.table import open_table
from curation.inspect.report.build import write_report
from curation.runner.gc.forget import Request, forget
from curation.runner.gc.restore import read_manifests, restore_run, tag_run
from curation.store.reports import check_reports, in_removal_order, put_report
from curation.store.run_log import latest_run
from curation.store.step_log import Waiting
from curation.store.storage.local import LocalStorage
from curation.store.store import Store
from curation.store.tags import delete_tag, read_tags
from curation.store.verification import verify_store

from ..damage.finished import SkippingClock, flip
from .conftest import TwoRuns
from .helpers import NOW, contents, copied, gc, recipe_of, run_recipe

SEED = 17
WAITING = Waiting(notify=lambda text: None, clock=SkippingClock())
"""The process that was killed is this one, which goes on, so its leases must run out."""


class Killed(BaseException):
    """The process ended here."""


class Dying(LocalStorage):
    """A disk of a process that is killed before one of its changes."""

    def __init__(self, root: Path, after: float = float("inf")) -> None:
        super().__init__(root)
        self.after, self.changes = after, 0

    def _change(self) -> None:
        if self.changes >= self.after:
            raise Killed
        self.changes += 1

    def write(self, path: str, content: bytes) -> None:
        """See `Storage.write`."""
        self._change()
        super().write(path, content)

    def create(self, path: str, content: bytes) -> bool:
        """See `Storage.create`."""
        self._change()
        return super().create(path, content)

    def open_output(self, path: str) -> Any:
        """See `Storage.open_output`."""
        self._change()
        return super().open_output(path)

    def copy(self, source: str, target: str) -> None:
        """See `Storage.copy`."""
        self._change()
        super().copy(source, target)

    def delete(self, paths: Iterable[str]) -> None:
        """See `Storage.delete`: some of the files may be gone, and others not."""
        for path in list(paths):
            self._change()
            super().delete([path])


class Command(NamedTuple):
    """A command that changes a store.

    Attributes:
        run: runs it.
        check: checks what it did, once it has ended.
        prepare: changes the store before.
    """

    run: Callable[[Store, TwoRuns], object]
    check: Callable[[Store, TwoRuns], object]
    prepare: Callable[[Path, TwoRuns], object] = lambda store, two: None


def tags_are(expected: list[str]) -> Callable[[Store, TwoRuns], None]:
    def check(store: Store, two: TwoRuns) -> None:
        assert [tag.name for tag in read_tags(store)] == expected

    return check


def is_restored(store: Store, two: TwoRuns) -> None:
    latest = latest_run(store, "dataset")
    assert latest is not None and latest.tables == two.first.tables
    read_manifests(store, latest)
    record, did = run_recipe(two.first_recipe, store, waiting=WAITING)
    assert all(result.up_to_date for result in did.values())
    assert record.tables == two.first.tables


def is_collected(store: Store, two: TwoRuns) -> None:
    assert gc(store, NOW, dry_run=True).removed == ()
    removed = [t for t in gc(store, NOW, dry_run=True).tallies.values() if t.removed_files]
    assert removed == []


def has_report(store: Store, two: TwoRuns) -> None:
    path = write_report(recipe_of(two.second_recipe), store)
    assert store.storage.status(path) is not None


def take_down(store: Store, two: TwoRuns) -> None:
    forget(store, Request(images=[image_of(two)], by="the owner", reason="request"), WAITING)


def image_of(two: TwoRuns) -> str:
    rows = open_table(Store(two.store), "images", two.first.tables["images"]).read().to_pylist()
    return str(next(row["image_id"] for row in rows if row["source_key"] == "p3"))


def is_forgotten(store: Store, two: TwoRuns) -> None:
    image = image_of(two)
    ids = open_table(store, "images").read(["image_id"]).column(0).to_pylist()
    assert image not in ids
    run_recipe(two.second_recipe, store, waiting=WAITING)
    gc(store, NOW, waiting=WAITING)
    assert image not in open_table(store, "images").read(["image_id"]).column(0).to_pylist()


def damage(store: Path, two: TwoRuns) -> None:
    manifest = open_table(Store(store), "claims").manifest
    flip(store / manifest.fragments[0].files[0].path)


def set_aside(store: Store, two: TwoRuns) -> None:
    verify_store(store, set_aside=True)


def is_mended(store: Store, two: TwoRuns) -> None:
    run_recipe(two.second_recipe, store, waiting=WAITING)
    assert verify_store(store) == []


COMMANDS = {
    "tag": Command(lambda s, two: tag_run(s, "v1", two.first.run, WAITING), tags_are(["v1"])),
    "untag": Command(
        lambda s, two: delete_tag(s, "v1") if read_tags(s) else None,
        tags_are([]),
        lambda store, two: tag_run(Store(store), "v1", two.first.run, WAITING),
    ),
    "restore": Command(lambda s, two: restore_run(s, two.first, WAITING), is_restored),
    "gc": Command(lambda s, two: gc(s, NOW, waiting=WAITING), is_collected),
    "report": Command(lambda s, two: write_report(recipe_of(two.second_recipe), s), has_report),
    "forget": Command(take_down, is_forgotten),
    "verify-store": Command(set_aside, is_mended, damage),
}


def prepared(base: TwoRuns, folder: Path, name: str) -> Path:
    store = copied(base.store, folder)
    COMMANDS[name].prepare(store, base)
    return store


def changes_of(base: TwoRuns, folder: Path, name: str) -> int:
    """The number of changes that a command makes."""
    storage = Dying(prepared(base, folder, name))
    COMMANDS[name].run(Store(folder, storage), base)
    return storage.changes


def crash(base: TwoRuns, folder: Path, name: str, moment: int) -> None:
    """Kill a command at a moment, look at the store, run the command again, and look again."""
    path, command = prepared(base, folder, name), COMMANDS[name]
    with pytest.raises(Killed):
        command.run(Store(path, Dying(path, moment)), base)
    if name not in ("forget", "verify-store"):
        assert contents(path, base.second) == contents(base.store, base.second)
        assert verify_store(Store(path)) == []
    command.run(Store(path), base)
    command.check(Store(path), base)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_was_killed_ends_well_when_it_is_run_again(
    base: TwoRuns, tmp_path: Path, name: str
) -> None:
    """At one moment of each command; `make nightly` tries all."""
    total = changes_of(base, tmp_path / "whole", name)
    crash(base, tmp_path / "store", name, random.Random(f"{SEED} {name}").randrange(total))


def test_a_report_that_is_written_anew_or_removed_is_never_a_damaged_one(tmp_path: Path) -> None:
    version = "0" * 32
    folder = f"reports/{version}"
    changes = 0
    for rewrites in (True, False):
        for moment in range(4):
            path = tmp_path / f"{rewrites}-{moment}"
            put_report(Store(path), folder, {"report.html": b"old", "composition.parquet": b"x"})
            storage = Dying(path, moment)
            with suppress(Killed):
                if rewrites:
                    put_report(Store(path, storage), folder, {"report.html": b"longer"})
                else:
                    storage.delete(in_removal_order(storage.files(folder)))
            changes = max(changes, storage.changes)
            assert list(check_reports(Store(path))) == []
    assert changes == 3


@pytest.mark.nightly
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_may_be_killed_at_any_moment(base: TwoRuns, tmp_path: Path, name: str) -> None:
    for moment in range(changes_of(base, tmp_path / "whole", name)):
        crash(base, tmp_path / str(moment), name, moment)
