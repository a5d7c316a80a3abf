"""The processes of `make cluster` and `make airflow` end with them, and two share no folder."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from scripts.daemons import alone_in

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import signal, subprocess, sys
from scripts.daemons import end_on_signals, stop_sessions
# Tests that were started with nohup ignore it.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
end_on_signals()
waiting = [sys.executable, "-c", "input()"]
child = subprocess.Popen(waiting, stdin=subprocess.PIPE, start_new_session=True)
try:
    print(child.pid, flush=True)
    child.wait()
finally:
    stop_sessions([child])
"""


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGHUP])
def test_a_closed_terminal_ends_what_was_started(kind: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    child = psutil.Process(int(process.stdout.readline()))
    process.send_signal(kind)
    process.wait(60)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_what_is_started_with_nohup_outlives_its_terminal() -> None:
    script = (
        "from scripts.daemons import end_on_signals\n"
        "end_on_signals(); print(1, flush=True); input()"
    )
    process = subprocess.Popen(
        ["nohup", sys.executable, "-c", script],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "1\n"
    process.send_signal(signal.SIGHUP)
    process.communicate("go on\n", 60)
    assert process.returncode == 0


def test_a_second_one_in_a_folder_is_refused_and_leaves_the_files_of_the_first(
    tmp_path: Path,
) -> None:
    with (
        alone_in(tmp_path),
        pytest.raises(SystemExit, match=rf"runs in {tmp_path} already.*--home"),
        alone_in(tmp_path),
    ):
        pass
    with alone_in(tmp_path):
        pass
