"""The progress of a fetch adds up to the counts of its table."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from curation.engine.parallel import InProcess, ProgressCounter
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner.step import run_step
from curation.stages.fetch.progress import format_progress
from curation.store.store import Store
from tests.fetch.conftest import Web, answer
from tests.fetch.helpers import OPEN, encoded, fetched, picture
from tests.ingest.helpers import source, write


def test_progress_is_formatted_as_one_line() -> None:
    line = format_progress({"ok": 700, "http_404": 200, "timeout": 100}, 3_210_000_000, 4000, 50.0)
    begin = "1,000 of 4,000 rows · 3.2 GB · 14 images/s · 2 min 30 s left"
    assert line == f"{begin} · ok 70 % · http_404 20 % · timeout 10 %"
    assert format_progress({}, 0, 10, 0.0) == "0 of 10 rows · 0 bytes"


class Watched(InProcess):
    """Asks for the progress while it works, as a driver does."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def map(
        self,
        what: str,
        function: Callable[[Any], Any],
        items: Sequence[Any],
        counter: ProgressCounter | None = None,
        gpu: bool = False,
        isolated: bool = False,
    ) -> list[Any]:
        if what != "fetch" or counter is None:
            return super().map(what, function, items)
        results: list[Any] = []
        working = threading.Thread(
            target=lambda: results.extend(InProcess().map(what, function, items, counter))
        )
        working.start()
        while working.is_alive():
            self.notes.append(counter.describe(counter.counts()))
            working.join(0.05)
        self.notes.append(counter.describe(counter.counts()))
        return results


def test_progress_adds_up_to_the_counts_of_the_table(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.stages.fetch.progress.INTERVAL_S", 0.005)
    monkeypatch.setattr("curation.media.pictures.decoder.MAX_BATCH", 1)

    async def slow(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        writer.write(answer(encoded(picture())))

    web.pages = {f"/{n}": slow for n in range(60)}
    # The first picture starts the decoder, and rows would be downloaded but not written meanwhile.
    fetched(tmp_path / "warm", [web.url("/0")])
    rows = [{"url": web.url(f"/{n}"), "caption": "c"} for n in range(80)]
    path = write(tmp_path / "l.parquet", rows)
    few = {"per_host": {"concurrency": 2, "per_second": None}}
    recipe = parse_recipe({"name": "t", "sources": [source(path)], "fetch": OPEN | few})
    watched = Watched()
    for step in plan(recipe, until="fetch"):
        run_step(step, Store(tmp_path / "store"), watched)
    counts = [int(n) for line in watched.notes for n in re.findall(r"^(\d+) of 80 rows", line)]
    assert len(counts) == len(watched.notes)
    assert counts == sorted(counts)
    assert len(set(counts)) > 5
    assert watched.notes[-1].startswith("80 of 80 rows")
    assert "ok 75 %" in watched.notes[-1]
    assert "http_404 25 %" in watched.notes[-1]
    assert not list((tmp_path / "store").rglob("progress.json"))
