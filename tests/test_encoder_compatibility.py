"""A step refuses tables with vectors of different encoders or dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.engine.parallel import InProcess
from curation.errors import StoreError
from curation.flow import plan
from curation.media.encoders.encoder import encoder_identity
from curation.recipe import parse_recipe
from curation.runner.step import StepResult
from curation.store.digest import digest
from curation.store.store import Store

from .kmeans.data import names, planted
from .tables import BY_SEMANTIC, commit_vectors, run_step

SPEC = {
    "name": "spaces",
    "sources": [
        {"name": "web", "role": "pool", "format": "csv", "path": "w", "columns": {"url": "u"}},
        {"name": "seeds", "role": "seed", "format": "folder", "path": "s"},
    ],
    "dedup": BY_SEMANTIC,
    "cluster": {"levels": [4]},
    "retrieve": [{"name": "a", "seeds": "seeds", "strategy": "sample"}],
}
PREPROCESSING = {
    "input_size": (3, 32, 32),
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "crop_pct": 0.9,
    "crop_mode": "center",
    "interpolation": "bicubic",
}


def encoder(
    name: str = "timm/a", weights: str = "1f" * 32, dim: int = 8, **changed: Any
) -> dict[str, Any]:
    return encoder_identity(name, weights, dim, PREPROCESSING | changed)


def described(identity: dict[str, Any]) -> str:
    """Return how an error describes an encoder, as a regular expression."""
    preprocessing = digest(identity["preprocessing"], 12)
    return (
        rf"{identity['architecture']} \(dimension {identity['dim']}, weights "
        rf"{identity['weights_sha256'][:12]}, preprocessing {preprocessing}\)"
    )


def fill(
    store: Store, encoders: Sequence[dict[str, Any]] | None = None, dims: tuple[int, int] = (8, 8)
) -> None:
    """Commit a pool and seeds with the encoders and dimensions of the two."""
    rng = np.random.default_rng(0)
    parts = {
        fragment: (names(rng, 30), planted(rng, 30, dim, 4)[0])
        for fragment, dim in zip(("web-0", "seeds-0"), dims, strict=True)
    }
    commit_vectors(store, parts, dict(zip(parts, encoders or (), strict=False)))


def run(store: Store, name: str) -> StepResult:
    (step,) = (s for s in plan(parse_recipe(SPEC)) if s.name == name)
    return run_step(step, store, InProcess())


@pytest.mark.parametrize(
    "other",
    [
        encoder(name="timm/b", dim=16),
        encoder(weights="2e" * 32),
        encoder(mean=(0.0, 0.0, 0.0)),
    ],
)
@pytest.mark.parametrize("stage", ["neighbours", "cluster", "quantise"])
def test_two_encoders_in_one_table_are_refused(
    tmp_path: Path, stage: str, other: dict[str, Any]
) -> None:
    """This happens when the weights of a name on a hub change between two runs."""
    store = Store(tmp_path)
    fill(store, [encoder(), other], (8, other["dim"]))
    first, second = described(encoder()), described(other)
    words = rf"fragment 'web-0' is by {first}, fragment 'seeds-0' by {second}.*weights"
    with pytest.raises(StoreError, match=words):
        run(store, stage)


def test_seeds_of_another_dimension_are_refused_without_a_record_too(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(store, dims=(8, 12))
    with pytest.raises(StoreError, match=r"\(dimension 8\), fragment 'seeds-0' .*dimension 12"):
        run(store, "quantise")


def test_centroids_of_another_encoder_are_refused_until_they_are_trained_anew(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    one, other = encoder(), encoder(name="timm/b", dim=16)
    fill(store, [one, one])
    run(store, "cluster")
    run(store, "assign")
    fill(store, [other, other], (16, 16))
    first, second = described(one), described(other)
    words = f"come from embeddings.semantic by {first}, embeddings.semantic is by {second}"
    with pytest.raises(StoreError, match=rf"{words}.*--from cluster"):
        run(store, "assign")
    run(store, "cluster")
    assert run(store, "assign").rows == 60


def test_codebooks_of_another_encoder_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one, other = encoder(), encoder(name="timm/b", dim=16)
    fill(store, [one, one])
    run(store, "quantise")
    fill(store, [other, other], (16, 16))
    with pytest.raises(
        StoreError, match=rf"codebooks come from .*{described(one)}.*--from quantise"
    ):
        run(store, "index")


def test_centroids_of_another_dimension_are_refused_without_a_record_too(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(store)
    run(store, "cluster")
    fill(store, dims=(16, 16))
    with pytest.raises(StoreError, match=r"dimension 8\), embeddings.semantic .*dimension 16"):
        run(store, "assign")
