"""A store whose folder nobody may write to: what reads it works, and what writes says why it cannot."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import curation
from curation.cli import app
from curation.errors import CurationError

from .conftest import Made

NOBODY = 65534
run = CliRunner().invoke


@contextmanager
def no_rights_to_write(folder: Path) -> Iterator[None]:
    """Take the rights to write below a folder; the superuser, who has them anyway, is somebody else."""
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    user = os.geteuid()
    os.seteuid(NOBODY if user == 0 else user)
    try:
        yield
    finally:
        os.seteuid(user)
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.fixture
def place(made: Made) -> Iterator[Path]:
    """A copy of the finished store, where every user can go; pytest's folders are for one user."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        shutil.copytree(made.store, Path(folder, "store"))
        Path(folder, "tiny.yaml").write_text(yaml.safe_dump(made.recipe))
        yield Path(folder)


def test_a_store_that_is_read_only_is_read(made: Made, place: Path) -> None:
    store, recipe = str(place / "store"), str(place / "tiny.yaml")
    with curation.open(store) as opened:
        image = str(opened.vectors("semantic").image_ids[0])
    reading = [
        ["show", "dataset", "--store", store, "--json"],
        ["path", "dataset", "--store", store],
        ["runs", "--store", store, "--json"],
        ["versions", "dataset", "--store", store, "--json"],
        ["status", "--store", store],
        ["search", recipe, "--store", store, "--id", image, "--json"],
        ["diff", f"{store}@{made.first.run}", store, "--json"],
        ["why", image, "--store", store],
        ["sql", store, "SELECT count(*) FROM dataset", "--json"],
        ["opt-outs", "--store", store],
        ["verify-store", "--store", store],
        ["verify-store", "--store", store, "--set-aside"],
        ["gc", "--store", store, "--dry-run"],
    ]
    writing = [
        ["report", recipe, "--store", store],
        ["gc", "--store", store],
        ["tag", "v1", "--store", store],
        ["restore", made.first.run, "--store", store],
        ["forget", "--host", "a.example", "--by", "x", "--reason", "y", "--store", store],
    ]
    # The first calls also import what an interpreter in the superuser's home has for nobody else.
    before = [run(app, words).output for words in reading]
    spare = shutil.copytree(store, place / "spare")
    for words in writing:
        assert run(app, [str(spare) if w == store else w for w in words]).exit_code == 0, words
    with no_rights_to_write(Path(store)):
        for words, output in zip(reading, before, strict=True):
            result = run(app, words)
            assert (result.exit_code, result.output) == (0, output), words
        for words in writing:
            error = run(app, words).exception
            assert isinstance(error, CurationError), words
            assert re.search(
                rf"Cannot write '{store}/.*: Permission denied\. .*right to write", str(error)
            )
