"""Errors of an audit, and its command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curation.cli import app
from curation.engine.store import Store
from curation.errors import RecipeError, StoreError
from curation.inspect.audit.edits import EDITS

from .conftest import Run, audited


def test_recipes_that_cannot_be_audited(committed, tmp_path):
    with pytest.raises(RecipeError, match="both null"):
        audited(committed.with_dedup(near=None, perceptual=None), tmp_path)
    unhashed = Run(
        committed.spec | {"screen": {"filters": [], "perceptual_hash": False}}, committed.store
    )
    with pytest.raises(RecipeError, match="perceptual_hash"):
        audited(unhashed, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match="Cannot write"):
        audited(committed, tmp_path / "file" / "within")


def test_missing_tables_and_tables_of_other_images(committed, cut, tmp_path):
    with pytest.raises(StoreError, match="no committed table 'images'"):
        audited(Run(committed.spec, Store(tmp_path / "nothing")), tmp_path)
    other = Run(committed.spec | {"fetch": {"resize": {"size": 64}}}, committed.store)
    with pytest.raises(StoreError, match=r"stored with fetch\.resize"):
        audited(other, tmp_path)
    shutil.copytree(committed.store.root, tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / "tables" / "images")
    shutil.copytree(Path(cut.store.root) / "tables" / "images", tmp_path / "store/tables/images")
    with pytest.raises(StoreError, match="made from other images"):
        audited(Run(committed.spec, Store(tmp_path / "store")), tmp_path)


def test_vectors_of_another_encoder(committed, tmp_path):
    encoders = {"semantic": committed.spec["embed"]["encoders"]["semantic"] | {"mean": [0, 0, 0]}}
    other = Run(committed.spec | {"embed": {"encoders": encoders}}, committed.store)
    with pytest.raises(StoreError, match=r"are by timm/test_vit.*the recipe's encoder is timm"):
        audited(other, tmp_path)


def test_the_command_prints_tables_and_writes_files(committed, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(committed.spec))
    folder = tmp_path / "findings"
    arguments = [
        str(recipe),
        "--store",
        committed.store.root,
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
    assert summary["copies"]["planted"] == 2 * len(EDITS)
