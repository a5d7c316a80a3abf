"""Bars on a terminal: they move, and what is printed meanwhile stands above them, clean. Durations."""

from __future__ import annotations

import os
import pty
import sys
from pathlib import Path

import pytest

from curation.activity import format_duration

WORK = """
import logging, sys
from curation.logs import prepare_streams
from curation.streams import clean_output
from curation.progress import ProgressBar, shown_wait
from curation.terminal import Terminal, styled
with clean_output():
    prepare_streams(logging.WARNING, "%(levelname)s %(message)s")
    err = Terminal(stderr=True)
    with {shown}:
        err.print(styled("stage ", ("done", "bold")))
        logging.getLogger("x").warning("it is slow")
        print("a name \\x1b[2J of others", file=sys.stderr)
    print("after \\x1b[2J", file=sys.stderr)
"""


def on_terminal(code: str, root: Path) -> str:
    """What a program writes to a terminal that is its standard error and output."""
    child, terminal = pty.fork()
    if not child:
        os.environ |= {"PYTHONPATH": str(root), "TERM": "xterm-256color", "COLUMNS": "100"}
        os.execv(sys.executable, [sys.executable, "-P", "-c", code])
    written = b""
    try:
        while part := os.read(terminal, 65536):
            written += part
    except OSError:
        # The program has ended.
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, written
    return written.decode()


@pytest.mark.parametrize("shown", ['ProgressBar("work", 3)', 'shown_wait("Starting Spark")'])
def test_a_bar_moves_and_what_is_printed_stands_above_it(shown: str, root: Path) -> None:
    written = on_terminal(WORK.format(shown=shown), root)
    # Signs that erase the line are signs, and no text.
    assert "\x1b[2K" in written and "\\x1b[2K" not in written and "\\r" not in written
    assert "\x1b[2Kstage \x1b[1mdone\x1b[0m\r\n" in written
    assert "\x1b[2KWARNING it is slow\r\n" in written
    assert "a name \\x1b[2J of others\r\n" in written
    assert written.splitlines()[-1].endswith("after \\x1b[2J")
    assert "\x1b[2J" not in written


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.4, "0 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (360_000, "4 d 4 h"),
    ],
)
def test_a_duration_has_two_units(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown
