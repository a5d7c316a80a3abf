"""A small real run up to embed, which is all that an audit reads, split into fragments in two ways."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curation.engine.parallel import InProcess
from curation.flow import plan
from curation.inspect.audit.run import Audit, audit_dedup
from curation.recipe import Recipe, parse_recipe
from curation.runner.step import run_step
from curation.store.store import Store
from tests.e2e.small import encoded, picture
from tests.report.conftest import HOSTILE, source, write_source

PICTURES = 20
COPIED = 4


@dataclass(frozen=True)
class Run:
    """A run and the spec of its recipe."""

    spec: dict[str, Any]
    store: Store

    @property
    def recipe(self) -> Recipe:
        return parse_recipe(self.spec)

    def with_dedup(self, **dedup: Any) -> Run:
        """The same run under other thresholds."""
        return replace(self, spec=self.spec | {"dedup": self.spec["dedup"] | dedup})


def audited(run: Run, folder: Path, size: int = 6, seed: int = 0) -> Audit:
    """Audit a run into a folder."""
    return audit_dedup(run.recipe, run.store, size, seed, folder)


def pool_files() -> list[bytes]:
    """Images, copies of some with the same bytes or re-encoded, a flat image, and a broken file."""
    rng = np.random.default_rng(3)
    plain = [picture(n % 6, rng) for n in range(PICTURES)]
    files = [encoded(image) for image in plain]
    files += files[:COPIED]
    files += [encoded(image, 55) for image in plain[10 : 10 + COPIED]]
    files += [encoded(Image.new("RGB", (96, 96), (200, 200, 200))), b"\xff\xd8\xff no picture"]
    return files


def make(folder: Path, weights: dict[str, Any], rows_per_fragment: int) -> Run:
    """Run a recipe up to embed."""
    rows = [(file, f"{HOSTILE} {n}", f"{HOSTILE} {n}") for n, file in enumerate(pool_files())]
    write_source(folder / "web.parquet", rows)
    rng = np.random.default_rng(9)
    write_source(folder / "bench.parquet", [(encoded(picture(0, rng)), "held out", "h")])
    spec = {
        "name": "audited",
        "sources": [source(folder, "web", "pool"), source(folder, "bench", "held_out")],
        "ingest": {"rows_per_fragment": rows_per_fragment},
        "screen": {"filters": []},
        "embed": {"encoders": {"semantic": weights}, "batch_size": 32},
        "dedup": {
            "near": {"encoder": "semantic", "k": 8, "at_least": 0.999, "floor": 0.5},
            "held_out": {"at_least": 0.99},
            "verify": None,
        },
    }
    run = Run(spec, Store(folder / "store"))
    for step in plan(run.recipe, until="embed"):
        run_step(step, run.store, InProcess())
    return run


def tiny_weights(path: Path) -> dict[str, Any]:
    """Write the random weights of a very small encoder, and return its spec."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model("test_vit", img_size=32, num_classes=0)
    save_file(model.state_dict(), path)
    return {"model": "timm/test_vit", "weights": str(path), "input_size": 32}


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The spec of a very small encoder with random weights."""
    return tiny_weights(tmp_path_factory.mktemp("weights") / "w.safetensors")


@pytest.fixture(scope="session")
def committed(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, Any]) -> Run:
    """The run in one fragment."""
    return make(tmp_path_factory.mktemp("audit"), weights, 1000)


@pytest.fixture(scope="session")
def cut(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, Any]) -> Run:
    """The same run in fragments of seven rows."""
    return make(tmp_path_factory.mktemp("cut"), weights, 7)
