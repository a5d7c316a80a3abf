"""A command that is asked to end gives back its lease and records its end, as after Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from curation.store.run_log import read_runs
from curation.store.step_log import StepLog
from curation.store.store import Store

STEP = "0" * 32
WORKS = f"""
import signal, sys
from curation.cli import app as command_line
from curation.cli.app import main
from curation.store.run_log import recorded_run
from curation.store.step_log import StepLog, Waiting, hold
from curation.store.store import Store

@command_line.command()
def work(place: str, ending: str) -> None:
    store = Store(place)
    with recorded_run(store, "r", "f") as run:
        with hold(StepLog(store, {STEP!r}), run.holder, "fetch", {{}}, Waiting()):
            try:
                print("works", flush=True)
                while True:
                    signal.pause()
            finally:
                if "fails" in sys.argv:
                    raise ValueError("Java is gone")
                if "lingers" in sys.argv:
                    print("ends", flush=True)
                    sys.stdin.readline()

main()
"""


def working(store: Path, ending: str = "ends", ignored: bool = False) -> subprocess.Popen[str]:
    """A command that works on a stage."""
    # These tests may run under `nohup` themselves.
    handler = "SIG_IGN" if ignored else "SIG_DFL"
    begin = f"import signal; signal.signal(signal.SIGHUP, signal.{handler})\n"
    process = subprocess.Popen(
        [sys.executable, "-c", begin + WORKS, "work", str(store), ending],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "works\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_who_is_asked_to_end_leaves_no_lease_and_a_record(
    number: signal.Signals, tmp_path: Path
) -> None:
    process = working(tmp_path)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"error: Asked to end ({number.name}). Run again" in said
    (record,) = read_runs(Store(tmp_path))
    assert (record.state, record.error) == ("failed", "Terminated")
    assert StepLog(Store(tmp_path), STEP).latest().kind == "release"


def test_an_error_on_the_way_to_the_end_is_no_error_of_the_run(tmp_path: Path) -> None:
    """Java gets the signal too, where it is sent to all processes of a session or a container."""
    process = working(tmp_path, "fails")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "error: Asked to end (SIGTERM)" in said and "Traceback" not in said
    (record,) = read_runs(Store(tmp_path))
    assert (record.state, record.error) == ("failed", "Terminated")
    assert StepLog(Store(tmp_path), STEP).latest().kind == "release"


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_second_signal_does_not_interrupt_the_end(second: signal.Signals, tmp_path: Path) -> None:
    """Airflow ends spark-submit, which ends the driver, and then the driver itself."""
    process = working(tmp_path, "lingers")
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None and process.stdout.readline() == "ends\n"
    process.send_signal(second)
    _, said = process.communicate("go on\n", timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, said
    (record,) = read_runs(Store(tmp_path))
    assert (record.state, record.error) == ("failed", "Terminated")
    assert StepLog(Store(tmp_path), STEP).latest().kind == "release"


def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """As `nohup` has it."""
    process = working(tmp_path, ignored=True)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
