"""Two processes run one recipe on one store at once."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from curation.engine.parallel import InProcess
from curation.errors import LeaseError
from curation.flow import plan
from curation.store.manifest import Committed
from curation.store.step_log import StepLog, Waiting
from curation.store.store import Store

from .processes import GATED, ImpatientClock, run_recipe, runner, small_recipe


@pytest.fixture
def expected(tmp_path: Path) -> list[dict[str, Any]]:
    """The rows of a run that nobody disturbs."""
    return run_recipe(small_recipe(tmp_path), tmp_path / "undisturbed", InProcess())


def committed(folder: Path) -> tuple[str, int, dict[str, Committed]]:
    """Who added the last entry of the gated stage, and what it committed."""
    step = {s.name: s for s in plan(small_recipe(folder), until=GATED)}[GATED]
    entry = StepLog(Store(folder / "store"), step.fingerprint).latest()
    assert entry.holder is not None
    return entry.kind, entry.holder.pid, dict(entry.tables)


def test_one_works_and_the_other_waits_and_says_for_whom(
    tmp_path: Path, expected: list[dict[str, Any]]
) -> None:
    with runner(tmp_path) as first:
        assert first.reply() == "holds the lease"
        with runner(tmp_path) as second:
            text = second.reply()
            assert "Stage 'ingest' is being worked on by run 20" in text
            assert f"(process {first.process.pid} on " in text
            assert "since 20" in text
            assert text.endswith("Waiting until it has ended.")
            first.go_on()
            replies = [first.reply(), second.reply()]
    assert replies == [("rows", expected)] * 2
    assert committed(tmp_path)[0] == "commit"


def test_without_waiting_it_stops_with_an_error(tmp_path: Path) -> None:
    with runner(tmp_path) as first:
        assert first.reply() == "holds the lease"
        with pytest.raises(LeaseError, match=f"process {first.process.pid} .*--no-wait to wait"):
            run_recipe(small_recipe(tmp_path), tmp_path / "store", InProcess(), Waiting(wait=False))
        first.go_on()
        assert first.reply()[0] == "rows"


def test_a_holder_that_was_killed_is_overtaken_at_once(
    tmp_path: Path, expected: list[dict[str, Any]]
) -> None:
    with runner(tmp_path) as first:
        assert first.reply() == "holds the lease"
        first.process.kill()
        first.process.join()
    # It need not wait, so it does not say that it will not.
    waiting = Waiting(wait=False)
    rows = run_recipe(small_recipe(tmp_path), tmp_path / "store", InProcess(), waiting)
    assert rows == expected
    assert committed(tmp_path)[:2] == ("commit", os.getpid())


def test_a_holder_that_was_frozen_is_overtaken_and_cannot_commit(
    tmp_path: Path, expected: list[dict[str, Any]]
) -> None:
    texts: list[str] = []
    with runner(tmp_path) as first:
        assert first.reply() == "holds the lease"
        os.kill(first.process.pid or 0, signal.SIGSTOP)
        waiting = Waiting(notify=texts.append, clock=ImpatientClock())
        rows = run_recipe(small_recipe(tmp_path), tmp_path / "store", InProcess(), waiting)
        assert rows == expected
        assert len(texts) == 1
        before = committed(tmp_path)
        assert before[:2] == ("commit", os.getpid())
        os.kill(first.process.pid or 0, signal.SIGCONT)
        first.go_on()
        name, text = first.reply()
    assert name == "LeaseError"
    assert "Another run took over stage 'ingest'" in text
    assert "Nothing was committed" in text
    assert committed(tmp_path) == before
    assert run_recipe(small_recipe(tmp_path), tmp_path / "store", InProcess()) == expected
