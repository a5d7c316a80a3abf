"""Runs of two recipes, edits, gc, tags, restoring and lost files in any order, against a model."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from curation.errors import StoreError
from curation.runner.gc.kept_runs import Retention
from curation.runner.gc.restore import read_manifests, restore_run, tag_run
from curation.store.run_log import find_run
from curation.store.run_record import RunRecord
from curation.store.step_log import Waiting
from curation.store.store import Store
from curation.store.tags import delete_tag
from curation.store.verification import verify_store
from tests.machine_settings import machine_settings

from .helpers import build_tiny, contents, edited, gc, run_recipe

UNTIL = "screen"


class Runs(RuleBasedStateMachine):
    """The model: which runs must be whole, with which rows."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = Store(self.folder / "store")
        self.runs: list[tuple[RunRecord, dict[str, Any]]] = []
        self.tags: dict[str, str] = {}
        self.lost: set[str] = set()

    def teardown(self) -> None:
        """Remove the store."""
        shutil.rmtree(self.folder)

    @initialize()
    def build(self) -> None:
        """Write the sources."""
        self.spec = build_tiny(self.folder / "web")

    @rule(
        name=st.sampled_from("ab"),
        rows=st.sampled_from([4, 5]),
        force=st.sampled_from([False, False, True]),
    )
    def run(self, name: str, rows: int, force: bool) -> None:
        """Run a recipe, as it was or edited: whatever was lost, its tables are whole afterwards."""
        spec = edited(self.spec, name=name, ingest={"rows_per_fragment": rows})
        record, _ = run_recipe(spec, self.store, until=UNTIL, force=force)
        tables = contents(self.store, record)
        for earlier, expected in self.runs:
            if earlier.fingerprint == record.fingerprint:
                assert tables == expected
        self.runs.append((record, tables))

    @precondition(lambda self: self.runs)
    @rule(keep=st.integers(1, 2), dropped=st.sampled_from(["", "", "a"]))
    def gc(self, keep: int, dropped: str) -> None:
        """Remove what no run needs: the latest of each recipe and those with a tag are whole."""
        known = frozenset(dropped) & {record.recipe for record, _ in self.runs}
        retention = Retention(keep=keep, grace_s=0.0, dropped=known)
        planned = gc(self.store, retention, dry_run=True)
        collected = gc(self.store, retention)
        assert collected == planned
        expected: set[str] = set(self.tags.values())
        for name in {*"ab"} - known:
            expected |= {
                r.run for r, _ in self.runs if r.recipe == name and r.run in self._last(keep)
            }
        assert set(collected.kept) == expected
        self.runs = [(r, rows) for r, rows in self.runs if r.run in expected]
        for record, rows in self.runs:
            if not self._lost_a_file(record):
                read_manifests(self.store, record)
                assert contents(self.store, record) == rows
        if not self.lost:
            assert not verify_store(self.store)

    def _last(self, keep: int) -> set[str]:
        names = {r.recipe for r, _ in self.runs}
        return {r.run for n in names for r in [r for r, _ in self.runs if r.recipe == n][-keep:]}

    def _lost_a_file(self, record: RunRecord) -> bool:
        for table, version in record.tables.items():
            manifest = self.store.manifest(table, version)
            assert manifest is not None
            for fragment in manifest.fragments:
                if any(f.path in self.lost for f in fragment.files):
                    return True
        return False

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), name=st.sampled_from("xy"))
    def tag(self, data: st.DataObject, name: str) -> None:
        """Tag a run; a name in use and a run that lost a file are refused."""
        record, _ = data.draw(st.sampled_from(self.runs))
        whole = not self._lost_a_file(record)
        if (name not in self.tags or self.tags[name] == record.run) and whole:
            tag_run(self.store, name, record.run, Waiting())
            self.tags[name] = record.run
        else:
            with pytest.raises(StoreError, match=r"in use|not whole"):
                tag_run(self.store, name, record.run, Waiting())

    @precondition(lambda self: self.tags)
    @rule(data=st.data())
    def untag(self, data: st.DataObject) -> None:
        """Delete a tag."""
        name = data.draw(st.sampled_from(sorted(self.tags)))
        delete_tag(self.store, name)
        del self.tags[name]

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        """Restore a run that is whole."""
        record, rows = data.draw(st.sampled_from(self.runs))
        if not self._lost_a_file(record):
            restored = restore_run(self.store, find_run(self.store, record.run), Waiting())
            assert contents(self.store, restored) == rows
            self.runs.append((restored, rows))

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        """Lose the files of a fragment."""
        record, _ = data.draw(st.sampled_from(self.runs))
        table = data.draw(st.sampled_from(sorted(record.tables)))
        manifest = self.store.manifest(table, record.tables[table])
        assert manifest is not None
        # Names of files differ from one try of a sequence to the next, those of fragments do not.
        fragments = sorted(manifest.fragments, key=lambda fragment: fragment.name)
        fragment = data.draw(st.sampled_from(fragments))
        paths = [file.path for file in fragment.files]
        self.store.storage.delete(paths)
        self.lost.update(paths)


def check(examples: int, steps: int) -> None:
    """Try sequences of operations; each has its seed, so a failure is found again."""
    run_state_machine_as_test(
        Runs,
        settings=machine_settings(examples, steps),
    )


def test_no_order_of_operations_loses_what_a_kept_run_needs() -> None:
    check(examples=4, steps=8)


@pytest.mark.nightly
@pytest.mark.timeout(3000)
def test_no_long_order_of_operations_loses_what_a_kept_run_needs() -> None:
    check(examples=100, steps=30)
