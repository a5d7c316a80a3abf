"""Any bytes of any files of a store change, vanish or are cut off, in any order with runs and readers.

Readers get the rows of the recipe or an error that says what is wrong, and runs mend all of it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from curation.engine.iceberg import published
from curation.engine.table import open_table
from curation.errors import CurationError
from curation.flow import plan
from curation.inspect.api.store import OpenStore
from curation.inspect.diff import difference, open_dataset
from curation.inspect.lineage import trace
from curation.inspect.report.build import write_report
from curation.inspect.report.place import finished_report
from curation.inspect.status import read_status
from curation.launch import verify_inputs
from curation.recipe import parse_recipe
from curation.runner.gc.collect import collect
from curation.runner.gc.kept_runs import Retention
from curation.runner.gc.restore import restore_run, tag_run
from curation.store.run_log import read_runs
from curation.store.step_log import Waiting
from curation.store.tags import delete_tag, read_tags
from curation.store.verification import verify_store
from tests.machine_settings import machine_settings

from .conftest import Finished
from .finished import SkippingClock, run_recipe, tables_of

PLACES = st.floats(0, 1, exclude_max=True)
"""A place in a file, as a share of its length."""
WAITING = Waiting(clock=SkippingClock(), notify=lambda text: None)
RETENTION = Retention(keep=1, grace_s=0.0)


class Damages(RuleBasedStateMachine):
    """The model: what tables hold, and whether a byte changed that no reader notices."""

    finished: Finished

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.recipe = parse_recipe(self.finished.spec)
        self.damaged, self.has_hidden = 0, False

    def teardown(self) -> None:
        """Remove the store."""
        shutil.rmtree(self.folder)

    @initialize()
    def copy(self) -> None:
        """Copy the finished run, and let its report be written and its run have a tag."""
        self.store = self.finished.copy(self.folder / "store")
        run_recipe(self.finished.spec, self.store)
        tag_run(self.store, "v1", None, WAITING)
        write_report(self.recipe, self.store)

    @rule(number=st.integers(0, 9999), place=PLACES, bit=st.integers(0, 7))
    def flip(self, number: int, place: float, bit: int) -> None:
        """Change a bit of a file."""
        path, content = self._file(number)
        at = int(place * len(content))
        self.has_hidden |= is_of_data(path) and at >= start_of_footer(content)
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :])

    @rule(number=st.integers(0, 9999), place=PLACES)
    def cut(self, number: int, place: float) -> None:
        """Leave the beginning of a file."""
        path, content = self._file(number)
        path.write_bytes(content[: int(place * len(content))])

    @rule(number=st.integers(0, 9999))
    def lose(self, number: int) -> None:
        """Delete a file."""
        self._file(number)[0].unlink()

    @rule(number=st.integers(0, 9999), junk=st.binary(min_size=1, max_size=20))
    def grow(self, number: int, junk: bytes) -> None:
        """Add bytes to a file."""
        path, content = self._file(number)
        path.write_bytes(content + junk)

    @rule(number=st.integers(0, 9999), other=st.integers(0, 9999))
    def exchange(self, number: int, other: int) -> None:
        """Give a file the content of another."""
        path, before = self._file(number)
        content = self._file(other)[1]
        # Readers know a file by its size and its rows.
        self.has_hidden |= is_of_data(path) and content != before and len(content) == len(before)
        path.write_bytes(content)

    def _file(self, number: int) -> tuple[Path, bytes]:
        paths = sorted(p for p in Path(self.store.uri).rglob("*") if p.is_file())
        path = [p for p in paths if p.stat().st_size][number % len(paths)]
        self.damaged += 1
        return path, path.read_bytes()

    @rule()
    def run(self) -> None:
        """Run until a run ends well: each run mends what it meets."""
        if self.has_hidden:
            verify_inputs(plan(self.recipe), self.store)
        for _ in range(self.damaged + 1):
            with suppress(CurationError):
                self._run_once()
                break
        else:
            self._run_once()
        self._check_tables()
        if verify_store(self.store, set_aside=True):
            self._run_once()
            self._check_tables()
        self._mend_tag()
        left = verify_store(self.store)
        assert [p for p in left if not p.path.startswith("runs/")] == []
        self.damaged, self.has_hidden = 0, False

    def _run_once(self) -> None:
        """Run the recipe and write its report if it is not there, as `curation run` does."""
        done = run_recipe(self.finished.spec, self.store)
        up_to_date = all(result.up_to_date for result in done)
        lineage = trace(self.recipe, self.store)
        if not (up_to_date and finished_report(self.recipe, lineage, self.store)):
            write_report(self.recipe, self.store)

    def _check_tables(self) -> None:
        tables = tables_of(self.finished.spec, self.store)
        expected = self.finished.tables
        assert {n: t for n, t in tables.items() if t != expected.get(n)} == {}

    def _mend_tag(self) -> None:
        """Do what `verify-store` says of a damaged tag, and of one whose run has no record any more."""
        names = {record.run for record in read_runs(self.store)}
        try:
            wrong = [tag for tag in read_tags(self.store) if tag.run not in names]
        except CurationError as error:
            assert "curation tag v1 --delete" in str(error)
            wrong = []
            delete_tag(self.store, "v1")
        if wrong:
            delete_tag(self.store, "v1")
        if not read_tags(self.store):
            tag_run(self.store, "v1", None, WAITING)

    @rule()
    def look(self) -> None:
        """Read everything: each reader returns the rows that were written, or says what is wrong."""
        for reader in self._readers():
            with suppress(CurationError):
                reader()

    def _readers(self) -> Iterator[Callable[[], Any]]:
        for name in self.finished.tables:
            yield partial(self._read, name)
            yield partial(self._list_versions, name)
        yield lambda: list(read_runs(self.store))
        yield lambda: read_status(self.store)
        yield lambda: read_tags(self.store)
        yield lambda: list(published(self.store))
        yield lambda: trace(self.recipe, self.store)
        yield lambda: write_report(self.recipe, self.store)
        yield lambda: collect(self.store, RETENTION, dry_run=True)
        yield lambda: OpenStore(self.store.uri, "shapes").sql("FROM copies").fetchall()
        yield lambda: OpenStore(self.store.uri, "shapes").why("pool-0")
        yield lambda: list(difference(*2 * [open_dataset(self.store.uri)]))

    def _list_versions(self, name: str) -> None:
        OpenStore(self.store.uri, "shapes").versions(name)

    def _read(self, name: str) -> None:
        table = open_table(self.store, name)
        if self.has_hidden:
            table.read()
        else:
            assert table.read() == self.finished.tables[name]

    @rule(set_aside=st.booleans())
    def verify(self, set_aside: bool) -> None:
        """Compare every file with its checksum."""
        verify_store(self.store, set_aside=set_aside)
        self.has_hidden &= not set_aside

    @rule()
    def collect(self) -> None:
        """Remove what is not needed, if that is known."""
        with suppress(CurationError):
            collect(self.store, RETENTION, waiting=WAITING)

    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        """Restore a run, if it is whole."""
        runs = list(read_runs(self.store))
        if runs:
            record = data.draw(st.sampled_from(runs))
            with suppress(CurationError):
                restore_run(self.store, record, WAITING)


def is_of_data(path: Path) -> bool:
    """Whether a file is one of rows, whose footer has no checksum."""
    return path.suffix == ".parquet" and path.parent.name not in ("versions", "reports")


def start_of_footer(content: bytes) -> int:
    """Return where the footer of a Parquet file begins."""
    return len(content) - 8 - int.from_bytes(content[-8:-4], "little")


def check(finished: Finished, examples: int, steps: int) -> None:
    """Try sequences of operations; each has its seed, so a failure is found again."""
    run_state_machine_as_test(
        type("Damages", (Damages,), {"finished": finished}),
        settings=machine_settings(examples, steps),
    )


def test_no_damage_is_believed_or_stays(finished: Finished) -> None:
    check(finished, examples=4, steps=8)


@pytest.mark.nightly
@pytest.mark.timeout(3000)
def test_no_long_history_of_damage_is_believed_or_stays(finished: Finished) -> None:
    check(finished, examples=100, steps=25)
