"""Several encoders over one decode, and a head on one of them, in a whole recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from curation.algorithms.arrays.vectors import vector_matrix
from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.flow import plan
from curation.media.encoders.vit_micro import DIM
from curation.recipe import parse_recipe
from curation.runner.step import StepResult, run_step
from curation.store.store import Store


@pytest.fixture
def spec(small: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    state = timm.create_model("test_vit", num_classes=0).state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "tiny.safetensors")
    head = {"weight": torch.randn(1, DIM), "bias": torch.tensor([0.5])}
    save_file(head, tmp_path / "head.safetensors")
    heads = {"taste": {"encoder": "semantic", "weights": str(tmp_path / "head.safetensors")}}
    return small | {"score": {"heads": heads}, "select": {"taste": {"at_least": 0.5}}}


def run(spec: dict[str, Any], folder: Path, until: str) -> dict[str, StepResult]:
    steps = plan(parse_recipe(spec), until=until)
    return {s.name: run_step(s, Store(folder), InProcess()) for s in steps}


def test_a_second_encoder_is_computed_alone(spec: dict[str, Any], tmp_path: Path) -> None:
    first = run(spec, tmp_path / "store", "embed")
    tiny = {"model": "timm/test_vit", "weights": str(tmp_path / "tiny.safetensors")}
    both = {"batch_size": 16, "encoders": {"semantic": {"model": "vit_micro"}, "copy": tiny}}
    named = {"cluster": spec["cluster"] | {"encoder": "semantic"}}
    again = run(spec | {"embed": both} | named, tmp_path / "store", "embed")["embed"]
    assert (again.computed, again.reused) == (first["embed"].computed, first["embed"].computed)
    store = Store(tmp_path / "store")
    tables = [open_table(store, f"embeddings.{n}") for n in ("semantic", "copy")]
    encoders = [t.manifest.stats["encoder"] for t in tables]
    assert [e["architecture"] for e in encoders] == ["vit_micro", "timm/test_vit"]
    ids = [t.read(["pair_id"]).column("pair_id").to_pylist() for t in tables]
    assert ids[0] == ids[1] == open_table(store, "images").read(["pair_id"])["pair_id"].to_pylist()


@pytest.mark.nightly
def test_a_head_scores_and_its_threshold_binds(spec: dict[str, Any], tmp_path: Path) -> None:
    run(spec, tmp_path / "store", "select")
    store = Store(tmp_path / "store")
    scores = open_table(store, "head_scores").read().to_pandas()
    vectors = open_table(store, "embeddings.semantic").read()
    valid = vectors.column("vector").is_valid().to_numpy()
    from safetensors.numpy import load_file

    head = load_file(tmp_path / "head.safetensors")
    matrix = vector_matrix(vectors.column("vector").drop_null()).astype(np.float64)
    expected = matrix @ head["weight"][0].astype(np.float64) + float(head["bias"][0])
    np.testing.assert_allclose(scores["taste"].to_numpy()[valid], expected, atol=1e-5)
    assert scores["taste"].isna().to_numpy()[~valid].all()
    rows = open_table(store, "eligible").read().to_pandas()
    pool = rows["role"] == "pool"
    low = (scores["taste"] < 0.5).to_numpy()
    assert (rows["reason"] == "taste").any()
    assert not (rows["status"] == "eligible")[pool & low].any()
    assert not (rows["reason"] == "taste")[~pool].any()
