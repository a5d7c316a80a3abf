"""Lists of URLs that change between runs of several recipes on one store, against fresh stores."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from curation.errors import RecipeError
from tests.ingest.helpers import write
from tests.reuse.stores import Rows, Spec, StoppedError, run, run_fresh, up_to_date

FOLDERS = ("one", "two")
FILES = ("1.parquet", "2.parquet", "3.parquet", "4.parquet")
PATHS = {"a": "one", "b": "two", "c": "one/[12].parquet"}
"""The recipes, each with the path of its source; all sources have one name."""
Entry = tuple[int, str]
"""A row of a list: the number of its URL, and its caption."""
LISTS = st.lists(st.tuples(st.integers(0, 9), st.sampled_from("xy")), max_size=7)


class UrlLists(RuleBasedStateMachine):
    """The model: what the files list now, and which pairs the committed runs of each recipe listed.

    Attributes:
        runs: number of runs that were compared with a fresh store.
    """

    runs = 0

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        # Short lists in several buckets.
        self.small = patch("curation.stages.ingest.group_by_host.MIN_BUCKET_ROWS", 1)
        self.small.start()
        self.files: dict[tuple[str, str], list[Entry]] = {}
        self.ever: dict[Any, set[str]] = {}
        self.blocked: list[int] = []

    def teardown(self) -> None:
        """Run every recipe once more, and remove the store."""
        try:
            for recipe in PATHS if self.files else ():
                self.run(recipe, 2)
        finally:
            self.small.stop()
            shutil.rmtree(self.folder)

    @initialize()
    def build(self) -> None:
        """Write a first list for each recipe."""
        self.write("one", "1.parquet", [(0, "x"), (1, "x"), (2, "y")])
        self.write("two", "1.parquet", [(1, "x"), (5, "y")])
        self.block([])

    @rule(folder=st.sampled_from(FOLDERS), name=st.sampled_from(FILES), entries=LISTS)
    def write(self, folder: str, name: str, entries: list[Entry]) -> None:
        """Add a list, or write other rows in its place."""
        rows = [{"url": url_of(n), "caption": caption} for n, caption in entries]
        path = self.folder / folder / name
        if rows:
            write(path, rows)
            self.files[folder, name] = entries
        elif len(self.files) > 1:
            self.remove(folder, name)

    @rule(folder=st.sampled_from(FOLDERS), name=st.sampled_from(FILES))
    def remove(self, folder: str, name: str) -> None:
        """Take a list away."""
        if self.files.pop((folder, name), None) is not None:
            (self.folder / folder / name).unlink()

    @precondition(lambda self: self.files)
    @rule(data=st.data(), folder=st.sampled_from(FOLDERS), name=st.sampled_from(FILES))
    def rename(self, data: st.DataObject, folder: str, name: str) -> None:
        """Give a list another name or folder; it replaces one that has the name."""
        old = data.draw(st.sampled_from(sorted(self.files)))
        entries = self.files.pop(old)
        (self.folder / old[0] / old[1]).replace(self.folder / folder / name)
        self.files[folder, name] = entries

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def reorder(self, data: st.DataObject) -> None:
        """Write the rows of a list in another order."""
        folder, name = data.draw(st.sampled_from(sorted(self.files)))
        self.write(folder, name, data.draw(st.permutations(self.files[folder, name])))

    @rule(hosts=st.lists(st.integers(0, 3), max_size=2, unique=True))
    def block(self, hosts: list[int]) -> None:
        """Write another list of blocked domains in place of the last one."""
        self.blocked = hosts
        text = "".join(f"h{host}.example\n" for host in hosts)
        (self.folder / "blocked.txt").write_text(text or "none.example\n")

    @rule(recipe=st.sampled_from(sorted(PATHS)), rows=st.sampled_from([2, 3, 100]))
    def run_recipe(self, recipe: str, rows: int) -> None:
        """Run a recipe."""
        self.run(recipe, rows)

    def run(self, recipe: str, rows: int) -> None:
        """Run a recipe: its rows are those of a fresh store, and what was removed stands."""
        spec = self._spec(recipe, rows)
        if not self._entries(recipe):
            try:
                run(self.folder / "store", spec, "ingest")
            except RecipeError:
                return
            raise AssertionError("a source without a row is an error")
        stored_rows = run(self.folder / "store", spec, "ingest")
        fresh = run_fresh(spec, "ingest")
        ever = self.ever.get(recipe)
        listed = [row for row in stored_rows if row["reason"] != "removed"]
        if ever is None:
            assert as_set(stored_rows) == as_set(fresh)
        assert as_set(listed, duplicates=False) == as_set(fresh, duplicates=False)
        self._check_first(listed)
        now = {row["pair_id"] for row in fresh}
        removed = Counter(row["pair_id"] for row in stored_rows if row["reason"] == "removed")
        assert removed == Counter((ever or set()) - now)
        self.ever[recipe] = (ever or set()) | now
        assert up_to_date(self.folder / "store", spec, "ingest")
        type(self).runs += 1

    @rule(
        recipe=st.sampled_from(sorted(PATHS)),
        rows=st.sampled_from([2, 100]),
        units=st.integers(0, 6),
    )
    def stop(self, recipe: str, rows: int, units: int) -> None:
        """Stop a run after some units. If it had fewer, it commits."""
        spec = self._spec(recipe, rows)
        try:
            stored_rows = run(self.folder / "store", spec, "ingest", stop_after=units)
        except (StoppedError, RecipeError):
            return
        listed = {row["pair_id"] for row in stored_rows if row["reason"] != "removed"}
        self.ever[recipe] = self.ever.get(recipe, set()) | listed

    def _check_first(self, listed: Rows) -> None:
        """Of the rows of a URL one counts, and the others say that they repeat it."""
        by_url: dict[str, Rows] = {}
        for row in listed:
            by_url.setdefault(row["url_normalized"], []).append(row)
        for rows in by_url.values():
            if rows[0]["reason"] == "blocked_domain":
                assert {row["reason"] for row in rows} == {"blocked_domain"}
                continue
            (first,) = (row for row in rows if row["reason"] is None)
            repeats = [row for row in rows if row is not first]
            assert all(row["duplicate_of"] == first["pair_id"] for row in repeats)
            assert {row["reason"] for row in repeats} <= {"duplicate_url"}

    def _entries(self, recipe: str) -> list[Entry]:
        folder = PATHS[recipe].partition("/")[0]
        names = FILES[:2] if "[" in PATHS[recipe] else FILES
        return [e for name in names for e in self.files.get((folder, name), [])]

    def _spec(self, recipe: str, rows: int) -> Spec:
        source = {
            "name": "web",
            "role": "pool",
            "format": "parquet",
            "path": str(self.folder / PATHS[recipe]),
            "columns": {"url": "url", "caption": "caption"},
        }
        blocked = os.fspath(self.folder / "blocked.txt")
        return {
            "sources": [source],
            "ingest": {"rows_per_fragment": rows, "blocked_domains": blocked},
        }


def url_of(number: int) -> str:
    """Return a URL; those of one host have the same remainder."""
    return f"http://h{number % 4}.example/{number}"


def as_set(rows: Rows, duplicates: bool = True) -> Counter[tuple[Any, ...]]:
    """Return rows without their order; without `duplicates`, a repeated URL may count elsewhere."""
    names = ["pair_id", "url", "caption", "source_key", "metadata"]
    if duplicates:
        names += ["status", "reason", "duplicate_of"]
        return Counter(tuple(row[name] for name in names) for row in rows)
    blocked = ({"blocked": row["reason"] == "blocked_domain"} | row for row in rows)
    return Counter(tuple(row[name] for name in ["blocked", *names]) for row in blocked)
