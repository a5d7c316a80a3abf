"""Errors of an audit, and its command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curation.cli import app
from curation.errors import RecipeError, StoreError
from curation.flow import plan
from curation.inspect.audit.edits import EDITS
from curation.store.manifest import Committed
from curation.store.step_log import Entry, StepLog
from curation.store.store import Store

from .conftest import Run, audited


def test_recipes_that_cannot_be_audited(committed: Run, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="both null"):
        audited(committed.with_dedup(near=None, perceptual=None, held_out=None), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match="Cannot write"):
        audited(committed, tmp_path / "file" / "within")


def test_missing_tables_and_tables_of_other_images(committed: Run, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="has not made table 'images'"):
        audited(Run(committed.spec, Store(tmp_path / "nothing")), tmp_path)
    other = Run(committed.spec | {"fetch": {"resize": {"size": 64}}}, committed.store)
    with pytest.raises(StoreError, match="has not made table 'images'"):
        audited(other, tmp_path)
    shutil.copytree(committed.store.uri, tmp_path / "store")
    store = Store(tmp_path / "store")
    (fetch,) = (step for step in plan(committed.recipe) if step.name == "fetch")
    log = StepLog(store, fetch.fingerprint)
    later = Entry(log.numbers()[-1] + 1, "commit", tables={"images": Committed("other", "")})
    assert log.add(later)
    with pytest.raises(StoreError, match="would mix two versions of table 'images'"):
        audited(Run(committed.spec, store), tmp_path)


def test_vectors_of_another_encoder(committed: Run, tmp_path: Path) -> None:
    encoders = {"semantic": committed.spec["embed"]["encoders"]["semantic"] | {"mean": [0, 0, 0]}}
    other = Run(committed.spec | {"embed": {"encoders": encoders}}, committed.store)
    with pytest.raises(StoreError, match=r"has not made table 'embeddings\.semantic'"):
        audited(other, tmp_path)


def test_the_command_prints_tables_and_writes_files(committed: Run, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(committed.spec))
    folder = tmp_path / "findings"
    arguments = [
        str(recipe),
        "--store",
        committed.store.uri,
        "--sample",
        "2",
        "--out",
        str(folder),
    ]
    result = CliRunner().invoke(app, ["audit", "dedup", *arguments])
    assert result.exit_code == 0, result.output
    for words in (
        "Recall of edited copies",
        "crop_centre_90",
        "Suggested for near",
        "audit.html",
    ):
        assert words in result.output
    summary = json.loads((folder / "audit.json").read_text())
    assert summary["copies"]["injected"] == 2 * len(EDITS)
