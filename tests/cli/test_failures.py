"""Whatever is wrong with a recipe or a store, --json gives JSON alone: facts, or one error."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curation.cli.facts import FACTS
from curation.cli.facts.errors import Error

from .test_errors import Run, run, write
from .test_facts import COMMANDS

__all__ = ["run"]
SLOW = {"calibrate"}
"""It measures this machine, and reads neither a recipe nor a store."""
STORES = {"store", "before", "after"}


def arguments_of(name: str, recipe: str, store: str) -> list[str]:
    """A command line with a recipe and a store, and a word for all else that is required."""
    words = name.split()
    for parameter in COMMANDS[name].params:
        if not parameter.required:
            continue
        value = recipe if parameter.name == "recipe" else "x"
        value = store if parameter.name in STORES else value
        option = parameter.opts[0]
        words += [option, value] if option.startswith("--") else [value]
    return words


def nothing(folder: Path) -> tuple[str, str]:
    return "absent.yaml", str(folder / "absent")


def files(folder: Path) -> tuple[str, str]:
    """The store is a file, and the recipe a folder."""
    (folder / "r.yaml").mkdir()
    (folder / "store").write_text("no store")
    return "r.yaml", str(folder / "store")


def strangers(folder: Path) -> tuple[str, str]:
    """The store holds files of others, and the recipe is a picture."""
    (folder / "r.yaml").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    for name in ("runs", "tables/images/versions", "steps"):
        (folder / "store" / name).mkdir(parents=True)
        (folder / "store" / name / "a.json").write_text("{")
    return "r.yaml", str(folder / "store")


def no_sources(folder: Path) -> tuple[str, str]:
    """The recipe is sound, its source is not there, and the store is empty."""
    write(folder)
    (folder / "store").mkdir()
    return "r.yaml", str(folder / "store")


def odd_names(folder: Path) -> tuple[str, str]:
    """Names that are not UTF-8, and act on a terminal."""
    return os.fsdecode(b"caf\xe9\x1b[2J.yaml"), os.fsdecode(b"st\xf6re\n\x1b]0;x\x07")


def address(folder: Path) -> tuple[str, str]:
    """A store of a file system that is not installed."""
    write(folder, sed=1)
    return "r.yaml", "nosuch://user:password@host/store"


WORLDS: list[Callable[[Path], tuple[str, str]]] = [
    nothing,
    files,
    strangers,
    no_sources,
    odd_names,
    address,
]


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.__name__)
@pytest.mark.parametrize("name", sorted(set(FACTS) - SLOW))
def test_json_alone_is_printed(
    name: str, world: Callable[[Path], tuple[str, str]], run: Run, tmp_path: Path
) -> None:
    words = arguments_of(name, *world(tmp_path))
    ended, printed, said = run(*words, "--json")
    assert "Traceback" not in said, (words, said)
    assert printed == "" or json.loads(printed) is not None, words
    assert "password" not in printed + said
    if printed or ended == 0:
        # check and verify-store print what is wrong as their facts.
        assert printed and (ended == 0 or name in ("check", "verify-store", "weights")), words
        return
    error: Any = json.loads(said.strip().splitlines()[-1])
    assert Error.model_validate(error).exit_status == ended, (words, error)
    assert error["message"].strip()
