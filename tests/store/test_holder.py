"""Whether the process that holds a lease still runs, as far as this one can see it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curation.store.holder import this_process


def test_this_process_runs_and_one_that_ended_does_not() -> None:
    mine = this_process("r")
    assert not mine.has_ended
    assert replace(mine, process_start=mine.process_start + 1).has_ended
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert replace(mine, pid=ended.pid, process_start=1).has_ended


@pytest.mark.parametrize("answer", [None, PermissionError()])
def test_a_process_that_is_hidden_has_not_ended(
    monkeypatch: pytest.MonkeyPatch, answer: Exception | None
) -> None:
    """`hidepid` of /proc hides the processes of other users, as on many shared machines."""
    mine = this_process("r")

    def hide(path: Path, **options: Any) -> str:
        raise FileNotFoundError(path)

    def kill(pid: int, number: int) -> None:
        assert (pid, number) == (mine.pid, 0)
        if answer is not None:
            raise answer

    monkeypatch.setattr(Path, "read_text", hide)
    monkeypatch.setattr(os, "kill", kill)
    assert not mine.has_ended
