"""Every byte that a command, its libraries and its children write is clean."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from curation.cli import app, main
from curation.streams import CleanStream, clean_python_streams
from tests.ingest.helpers import pairs, source, write
from tests.test_terminal import POISON, acting

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egpj.exe\u2066\rx"
SECRET = "hQ7vZk2mP4"
ADDRESS = f"https://user:{SECRET}@host.example/l?sig={SECRET}"

WRITERS = f"""
import logging, os, subprocess, sys, threading, warnings
from curation.streams import clean_output
from curation.secrets import note_secrets
from curation.logs import prepare_streams
EVIL, ADDRESS = {EVIL!r}, {ADDRESS!r}
def fail():
    raise ValueError("thread" + EVIL + ADDRESS)
note_secrets(ADDRESS)
with clean_output():
    print("print" + EVIL + ADDRESS)
    print("error" + EVIL + ADDRESS, file=sys.stderr)
    warnings.warn("warning" + EVIL + ADDRESS)
    logging.getLogger("x").warning("unprepared" + EVIL + ADDRESS)
    prepare_streams(logging.INFO, "%(message)s")
    logging.getLogger("x").info("logged" + EVIL + ADDRESS)
    thread = threading.Thread(target=fail); thread.start(); thread.join()
    os.write(2, ("foreign" + EVIL + ADDRESS + "\\n").encode())
    os.write(1, ("output" + EVIL + ADDRESS + "\\n").encode())
    subprocess.run(["printf", "%s", "child" + EVIL + {SECRET!r}], check=True)
    subprocess.run(["sh", "-c", "printf 'long%200000s\\\\n' x >&2; printf '\\\\377bytes\\\\n' >&2"])
os.write(2, b"after\\n")
raise ValueError("trace" + EVIL + ADDRESS)
"""


@pytest.fixture(autouse=True)
def streams() -> Iterator[None]:
    before = sys.stdout, sys.stderr, sys.excepthook
    yield
    sys.stdout, sys.stderr, sys.excepthook = before


def test_all_that_a_process_and_its_children_write_is_clean(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", WRITERS],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
        timeout=60,
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    kinds = ("error", "warning", "unprepared", "logged", "thread", "foreign", "output", "child")
    missing = [kind for kind in kinds if kind + "\\x1b" not in err]
    assert not missing, err
    assert out.count("print\\x1b") == 1 and len(out.splitlines()) == 1
    assert "after\n" in err and "trace" in err and "\\xffbytes" in err
    assert len(err) > 200_000
    assert not acting(out + err)
    assert SECRET not in out + err


@given(st.lists(st.text(max_size=40), max_size=5))
def test_a_stream_cleans_any_text_and_keeps_its_length(texts: list[str]) -> None:
    out = io.StringIO()
    stream = CleanStream(out)
    assert [stream.write(text) for text in texts] == [len(text) for text in texts]
    assert not acting(out.getvalue())


def test_consoles_keep_their_colours_and_streams_are_wrapped_once() -> None:
    out = io.StringIO()
    sys.stdout = CleanStream(out)
    clean_python_streams()
    assert sys.stdout.rich_proxied_file is out
    Console(force_terminal=True, color_system="standard").print("[red]x")
    assert "\x1b[31mx" in out.getvalue()


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if hasattr(command, "commands"):
        for name, each in command.commands.items():
            yield from _commands(each, (*path, name))
    else:
        yield path, command


COMMANDS = dict(_commands(typer.main.get_command(app)))


def _calls(path: tuple[str, ...], value: str, store: Path) -> Iterator[list[str]]:
    """Yield the arguments of calls of a command with a hostile value in each place."""
    parameters = COMMANDS[path].params
    options = [p for p in parameters if p.param_type_name == "option" and not p.is_flag]
    positional = [value for p in parameters if p.param_type_name == "argument"]
    needed = [v for p in options if p.required for v in (p.opts[0], str(store))]
    yield [*path, f"--{value}"]
    yield [*path, *positional, *needed]
    for option in options:
        yield [*path, *positional, *needed, option.opts[0], value]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with hostile captions and URLs, in a folder with a hostile name."""
    folder = tmp_path_factory.mktemp("a") / f"s{EVIL}"
    texts = [text for text in POISON if "\ud83d" not in text]
    rows = [{"url": f"http://a.example/{n}?{c}", "caption": c} for n, c in enumerate(texts)]
    pairs(folder, source(write(folder.parent / f"l{EVIL}.parquet", rows)))
    return folder


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("value", [f"{EVIL}.yaml", f"s3://key:{SECRET}@b/{EVIL}"], ids=["a", "b"])
def test_no_command_writes_what_acts_or_is_secret(
    path: tuple[str, ...],
    value: str,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(5, EVIL, ADDRESS)

    monkeypatch.chdir(tmp_path)
    # It would measure the machine.
    monkeypatch.setattr("curation.inspect.cost.calibrate.calibrate", fail)
    # It would make a web and curate it.
    monkeypatch.setattr("quickstart.commands.curate", fail)
    if "://" in value:
        # It would ask a host outside this machine.
        monkeypatch.setattr("curation.inspect.first_recipe.draft.draft", fail)
    for call in _calls(path, value, store):
        monkeypatch.setattr(sys, "argv", ["curation", *call])
        with pytest.raises(SystemExit):
            main()
    printed = capfd.readouterr()
    assert printed.err
    assert not acting(printed.out + printed.err)
    assert SECRET not in printed.out + printed.err


HELD = """
import os, sys
from curation import streams
def write(text):
    os.write(2, text)
    while not streams._held:  # The relay reads in a thread.
        pass
with streams.clean_output():
    with streams.held_lines(lambda line: print("noted", line)):
        write(b"chatter\\n")
    os.write(2, b"passes\\n")
    try:
        with streams.held_lines(lambda line: print("noted", line)):
            write(b"reason\\n")
            raise ValueError
    except ValueError:
        pass
"""


def test_chatter_of_a_start_is_held_back_unless_the_start_fails() -> None:
    command = [sys.executable, "-c", HELD]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "noted chatter\n"
    assert done.stderr.splitlines() == ["passes", "reason"]


@pytest.mark.parametrize("closed", ["<&- >&-", "2>&-"])
def test_a_command_works_without_standard_streams(closed: str, root: Path) -> None:
    """As a service manager may start it."""
    command = f"{sys.executable} -m curation --version {closed}"
    done = subprocess.run(
        ["sh", "-c", command],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
