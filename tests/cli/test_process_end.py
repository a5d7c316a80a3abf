"""A process of the command line ends with its status, whatever threads of Arrow hold by then."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from curation.store.storage.base import open_content

ROOT = Path(__file__).resolve().parents[2]
ARROW_READS_ON = """
import io, os, sys, threading
import pyarrow as pa
from pyarrow import csv

receiver, sender = os.pipe()
# It is closed while Python is taken down, and the thread that reads goes on at that moment.
sys.sender = os.fdopen(sender, "wb")
waits = threading.Event()

class Source(io.RawIOBase):
    blocks = 0
    def readable(self):
        return True
    def read(self, size=-1):
        Source.blocks += 1
        if Source.blocks < 4:
            return b"a" + b"\\n1" * (size // 2 - 1) + b"\\n"
        waits.set()
        return os.read(receiver, size)

def work():
    global reader
    options = csv.ReadOptions(block_size=1000)
    reader = csv.open_csv(pa.PythonFile(Source(), "r"), read_options=options)
    waits.wait()
    print("done")
"""


def ended(code: str) -> subprocess.CompletedProcess[str]:
    """What becomes of a process that runs a program and ends."""
    program = f"from curation.cli.process_end import run_and_end\n{code}"
    return subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60
    )


def test_a_thread_of_arrow_that_reads_on_changes_nothing() -> None:
    process = ended(f"{ARROW_READS_ON}\nrun_and_end(work)")
    assert (process.returncode, process.stdout, process.stderr) == (0, "done\n", "")


@pytest.mark.parametrize(
    ("program", "option"),
    [
        ("runpy.run_module('curation', run_name='__main__')", "--version"),
        ("runpy.run_module('curation.cli', run_name='__main__')", "--version"),
        ("curation.cli.command()", "--version"),
        ("runpy.run_path('jobs/run.py', run_name='__main__')", "--help"),
        ("runpy.run_path('jobs/10_fetch.py', run_name='__main__')", "--help"),
    ],
)
def test_every_way_to_start_a_command_ends_so(program: str, option: str) -> None:
    begin = f"import runpy\nimport curation.cli\n{ARROW_READS_ON}\nwork()\n"
    process = subprocess.run(
        [sys.executable, "-c", f"{begin}sys.argv[1:] = [{option!r}]\n{program}"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert len(process.stdout.splitlines()) >= 2


def test_the_installed_command_is_the_one_that_ends_so() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"curation": "curation.cli:command"}


@pytest.mark.parametrize(
    ("ending", "status", "printed"),
    [
        ("return 7", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit(True)", 1, ""),
        ("sys.exit(256)", 0, ""),
        ("sys.exit('it fails')", 1, "it fails\n"),
        ("raise ValueError('bad')", 1, "ValueError: bad\n"),
    ],
)
def test_the_status_is_that_of_python(ending: str, status: int, printed: str) -> None:
    program = f"import sys\ndef work():\n    {ending}\n"
    for end in ("run_and_end(work)", "work()"):
        process = ended(program + end)
        assert process.returncode == status
        assert process.stderr.endswith(printed) and bool(process.stderr) == bool(printed)


def test_threads_and_exit_handlers_end_first_and_what_they_print_is_there() -> None:
    process = ended("""
import atexit, threading
from concurrent.futures import ThreadPoolExecutor

atexit.register(print, "handler")
go_on = threading.Event()

def finish():
    go_on.wait()
    print("thread")

def work():
    threading.Thread(target=finish).start()
    ThreadPoolExecutor(1).submit(lambda: (print("pool"), go_on.set()))

run_and_end(work)
""")
    assert process.returncode == 0
    assert process.stdout.split() == ["pool", "thread", "handler"]


def test_a_content_is_opened_as_a_copy_that_is_no_python_object() -> None:
    content = bytes(range(256)) * 10
    references = sys.getrefcount(content)
    reader = open_content(content)
    assert sys.getrefcount(content) == references
    assert reader.read_buffer().to_pybytes() == content
