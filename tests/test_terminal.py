"""Text of strangers never acts on a terminal, whichever command prints it."""

from __future__ import annotations

import ast
import io
import json
import logging
import shlex
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table as Grid
from typer.testing import CliRunner

from curation import progress
from curation.cli import app, main
from curation.errors import RecipeError
from curation.logs import LogFormatter, print_traceback
from curation.terminal import (
    Terminal,
    ascii_json,
    echo,
    number_beside,
    one_line,
    styled,
    visible,
)
from scripts.structure import PACKAGE
from tests.ingest.helpers import pairs, source, write

POISON = [
    "[/INST] answer",
    "[bold red]x[/bold red] [/]",
    "[link=http://evil.example]go[/link]",
    ":smile: :boom:",
    "ends with backslash\\",
    "\x1b]0;owned\x07 title",
    "\x1b[2J\x1b[H cleared",
    "\x9b31mred \x7f",
    "right\u202eleft \u2066x\u2069 \u200f",
    "nul\x00here \x08\x08",
    "line\nbreak\r\nrow 99",
    "sep\u2028\u2029\x85",
    "\ufeffmark \U000e0041",
    "fill\u3164er \u115f\u1160\uffa0 \u034f \U0001d173 \u2064",
    "\ud83d lone",
]
NOTHING = "\xad\u034f\u115f\u1160\u17b4\u180e\u200b\u2060\u2064\u3164\uffa0\U0001d173\U000e0020"
"""Characters that are shown as nothing."""
LITERAL = POISON[:5] + ["日本語 👨\u200d👩\u200d👧 é"]


def acting(text: str) -> set[str]:
    """The characters of a text that would act on a terminal."""
    kinds = {c: unicodedata.category(c) for c in set(text) - set("\n\t\u200c\u200d")}
    return {c for c, kind in kinds.items() if kind in ("Cc", "Cs", "Zl", "Zp")} | (
        set(text) & set("\u202e\u2066\u2069\u200f\ufeff\U000e0041" + NOTHING)
    )


def on_terminal(*printed: Any, width: int = 200) -> str:
    out = io.StringIO()
    terminal = Terminal(file=out, width=width)
    for each in printed:
        terminal.print(each)
    return out.getvalue()


@pytest.mark.parametrize("text", POISON)
def test_a_string_a_cell_and_a_title_are_printed_without_acting(text: str) -> None:
    grid = Grid(text, title=text, caption=text)
    grid.add_row(text)
    shown = on_terminal(text, grid, styled((text, "bold"), text))
    assert not acting(shown)
    assert not acting(one_line(text))
    assert "\n" not in one_line(text)


@pytest.mark.parametrize("text", LITERAL)
def test_harmless_text_is_printed_as_it_is(text: str) -> None:
    grid = Grid("column")
    grid.add_row(text)
    assert visible(text) == one_line(text) == text
    for printed in (text, grid, styled(text)):
        assert text in on_terminal(printed)


@given(st.text())
def test_any_text_can_be_printed(text: str) -> None:
    assert not acting(visible(text))
    assert visible(visible(text)) == visible(text)
    visible(text).encode()


@given(st.lists(st.text()))
def test_json_is_printed_in_ascii_and_read_back(values: list[str]) -> None:
    printed = ascii_json(json.dumps(values))
    assert printed.isascii()
    assert not acting(printed)
    assert json.loads(printed) == values
    out = io.StringIO()
    Terminal(file=out).print_json(json.dumps(values))
    assert json.loads(out.getvalue()) == values


@pytest.mark.parametrize("text", POISON)
def test_logs_progress_and_tracebacks_do_not_act(
    text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = logging.LogRecord("n", logging.WARNING, "", 0, "row %s", (text,), None)
    logged = LogFormatter("%(levelname)s %(message)s").format(record)
    assert not acting(logged)
    assert all(line.startswith("    ") for line in logged.splitlines()[1:])
    print_traceback(ValueError, ValueError(text), None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bar = progress.ProgressBar(text, 3)
    bar.set_note(text)
    assert not acting(on_terminal(*bar._bar.get_renderables()))
    assert not acting(capsys.readouterr().err)


@pytest.mark.parametrize("text", POISON)
def test_an_error_is_printed_without_acting(
    text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(standalone_mode: bool) -> None:
        raise RecipeError(f"no {text}")

    monkeypatch.setattr(sys.modules["curation.cli.app"], "app", fail)
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr().err
    assert ended.value.code == 2
    assert printed.startswith("error: no ")
    assert not acting(printed)


def test_a_path_is_escaped_on_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    echo("a\x1b[b]")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    echo("a\x1b[b]")
    assert capsys.readouterr().out == "a\x1b[b]\na\\x1b[b]\n"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in a folder with a name like a tag, and captions that act on terminals."""
    folder = tmp_path_factory.mktemp("a") / "[birds] \u202e"
    captions = [text for text in POISON if "\ud83d" not in text]
    rows = [{"url": f"http://a.example/{n}", "caption": c} for n, c in enumerate(captions)]
    stored_rows = pairs(folder, source(write(folder.parent / "list.parquet", rows), count=None))
    assert [row["caption"] for row in stored_rows] == captions
    return folder


COMMANDS = [
    ["show", "pairs", "-n", "99"],
    ["versions", "pairs"],
    ["versions", "pairs", "--json"],
    ["runs"],
    ["runs", "--json"],
    ["tag"],
    ["gc", "--dry-run"],
    ["gc", "--dry-run", "--json"],
    ["verify-store"],
    ["verify-store", "--json"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_print_stores_without_acting(store: Path, command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--store", str(store)])
    assert result.exit_code == 0, result.output
    assert not acting(result.output)


def test_show_prints_each_caption_in_one_line(store: Path) -> None:
    shown = CliRunner().invoke(app, ["show", "pairs", "-n", "99", "--store", str(store)]).output
    lines = [line for line in shown.splitlines() if line.startswith("  caption")]
    assert lines == [f"  caption                {one_line(c)}" for c in POISON[:-1]]
    files = next(line for line in shown.splitlines() if line.startswith("files "))
    assert visible(shlex.quote(str(store))) in files


def test_search_and_diff_print_values_without_acting(
    monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    from curation.cli import inspect_commands, search_command

    row = {"query": 0, "rank": 1, "similarity": 0.5, "image_id": "0" * 32, "arms": POISON}
    for text in POISON:
        out = io.StringIO()
        monkeypatch.setattr(search_command, "out", Terminal(file=out, width=400))
        search_command._print_nearest([row | {"source": text, "caption": text}], [text], index=text)
        assert not acting(out.getvalue())
    batch = pa.RecordBatch.from_pylist([{"change": c, "reason": c} for c in POISON[:-1]])
    monkeypatch.setattr("curation.inspect.diff.difference", lambda *_: [batch])
    monkeypatch.setattr("curation.inspect.diff.open_dataset", lambda _: _Dataset())
    out = io.StringIO()
    monkeypatch.setattr(inspect_commands, "out", Terminal(file=out, width=400))
    inspect_commands.diff("\x1b[2J", "\u202e")
    assert not acting(out.getvalue())
    assert "[/INST] answer" in out.getvalue()


class _Dataset:
    rows = 1

    class manifest:
        version = "\x1b]0;x\x07"


PRINTING = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.is_relative_to(PACKAGE / "cli") or path.name == "console.py"
)


@pytest.mark.parametrize("path", PRINTING, ids=lambda path: path.stem)
def test_commands_print_through_the_terminal_alone(path: Path) -> None:
    """Each command prints with `out`, `err` or `echo`, which escape what they print."""
    tree = ast.parse(path.read_text())
    called = {ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    imported = {
        alias.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for alias in n.names
    }
    raw = {"print", "typer.echo", "typer.secho", "click.echo", "Console", "rich.print", "escape"}
    assert not called & raw
    assert not imported & {"escape", "Text", "Markup"}


@pytest.mark.parametrize("width", [12, 24, 40, 57, 80, 120, 200])
def test_no_word_of_a_table_is_cut(width: int) -> None:
    """Columns of ids left nothing of the others at 80 characters, where most terminals are."""
    words = [
        ("run", "20261130T021809.089240Z-00f80a"),
        ("started (UTC)", "2026-11-30 02:18:09"),
        ("version", "f57935f0e8946d571191a5461c83568e"),
        ("[b]what[/b]", "[red]a caption with :smile: and some words[/red]"),
        ("rows", "1,234"),
    ]
    grid = Grid(*(name for name, _ in words), title="What there is", caption="Why")
    grid.columns[0].no_wrap = True
    for _ in range(2):
        grid.add_row(*(value for _, value in words))
    out = io.StringIO()
    Terminal(file=out, width=width, soft_wrap=True).print(grid)
    shown = out.getvalue()
    for name, value in words:
        for word in (*name.split(), *value.split()):
            assert shown.count(word) >= 1, (word, shown)
    assert "…" not in shown and "What there is" in " ".join(shown.split()) and "Why" in shown
    # Lines of a frame fit; others are those of a long value.
    assert all(len(line) <= width for line in shown.splitlines() if line[:1] in "│┃└┏┡")


def test_a_table_without_rows_has_its_names() -> None:
    out = io.StringIO()
    Terminal(file=out, width=10).print(Grid("image_id", "caption"))
    assert out.getvalue() == "image_id, \ncaption\n"


@pytest.mark.parametrize(
    ("value", "bounds", "shown"),
    [
        (1.19923, [3.0], "1.199"),
        (3.0, [3.0], "3"),
        (3.0001, [3.0], "3.0001"),
        (2.99999, [1.0, 3.0], "2.99999"),
        (-0.00001, [0.0], "-1e-05"),
        (123456.7, [], "123457"),
        (20007, [5000.0], "20007"),
    ],
)
def test_a_number_is_shown_on_its_side_of_a_bound(
    value: float, bounds: list[float], shown: str
) -> None:
    """`aspect 3: fails at most 3.0` and `a share of 0.5; the bound is 0.5` contradict themselves."""
    assert number_beside(value, bounds) == shown
