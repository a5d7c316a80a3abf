"""What the planner says of the driver's memory holds for the bytes that are counted there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.flow import plan
from curation.inspect.cost import pixel_pairs, workload
from curation.inspect.cost.encoder_profiles import EncoderProfile
from curation.inspect.cost.rates import Assumptions
from curation.inspect.cost.work import PART_ON_DRIVER
from curation.recipe import load_recipe, parse_recipe
from curation.stages.ingest import duplicates
from curation.stages.verify import measured_pairs, partitioned, partitioned_pairs, stage
from curation.store.store import Store

from ..driver_memory import DriverMemory
from ..ingest.helpers import source, write
from ..tables import commit, commit_batches, run_step
from ..verify.test_kept_pairs import PICTURES, SPEC, Comparisons, image_id
from .test_cost import ENCODERS, by_stage, recipe

FIXED = 600_000
"""Bytes of modules and caches that a first run loads, whatever its size."""
FRAGMENTS = 4


def commit_pairs(folder: Path, images: int, pairs: int) -> Store:
    """Commit images and random near pairs of them."""
    store = Store(folder)
    base = {"role": "pool", "source": "web", "status": "ok"}
    rows: dict[str, list[dict[str, Any]]] = {}
    for number in range(images):
        row: dict[str, Any] = {
            "pair_id": f"{number}",
            "image_id": image_id(number),
            "image": PICTURES[1],
        }
        rows.setdefault(f"web-{number % FRAGMENTS}", []).append(base | row)
    commit(store, "images", rows)
    rng = np.random.default_rng(0)
    left = rng.integers(0, images, pairs)
    right = (left + rng.integers(1, images, pairs)) % images
    columns = {
        **dict.fromkeys(("role_a", "role_b"), ["pool"] * pairs),
        "method": ["near"] * pairs,
        "image_a": [image_id(int(n)) for n in left],
        "image_b": [image_id(int(n)) for n in right],
        "similarity": np.ones(pairs, np.float32),
        "rank": [1] * pairs,
    }
    commit_batches(store, "neighbours", {"all": pa.RecordBatch.from_pydict(columns)})
    return store


def counted(folder: Path, images: int, pairs: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run verify, and return the bytes that the driver held."""
    monkeypatch.setattr(measured_pairs, "compare", Comparisons())
    store, memory = commit_pairs(folder, images, pairs), DriverMemory()
    steps = {step.name: step for step in plan(parse_recipe(SPEC))}
    with memory.counting():
        run_step(steps["verify"], store, memory)
    return memory.peak


def test_verify_on_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = [counted(tmp_path / str(n), 200, n, monkeypatch) for n in (1_000, 6_000)]
    planned = [pixel_pairs.driver_bytes(n, n / 2, 200) for n in (1_000, 6_000)]
    growth, planned_growth = held[1] - held[0], planned[1] - planned[0]
    assert growth <= planned_growth <= 4 * growth


@pytest.mark.nightly
def test_verify_in_parts_holds_nothing_for_a_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (stage, pixel_pairs):
        monkeypatch.setattr(module, "ROWS_ON_DRIVER", 10)

    for module in (partitioned, pixel_pairs):
        monkeypatch.setattr(module, "ROWS_PER_PART", 200)
    for module in (partitioned_pairs, pixel_pairs):
        monkeypatch.setattr(module, "PAIRS_PER_UNIT", 5)
    held = counted(tmp_path, 300, 3_000, monkeypatch)
    planned = pixel_pairs.driver_bytes(3_000, 3_000, 300) + FRAGMENTS * PART_ON_DRIVER
    assert FIXED < held <= FIXED + planned <= 10 * held


@pytest.mark.nightly
def test_ingest_holds_nothing_for_a_row_or_a_duplicate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (duplicates, workload):
        monkeypatch.setattr(module, "ROWS_PER_PART", 100)

    def held(rows: int, per_fragment: int, distinct: int) -> int:
        folder = tmp_path / f"{rows}-{per_fragment}-{distinct}"
        urls = [f"http://h{n % 300}.example/{n % distinct}.jpg" for n in range(rows)]
        write(folder / "a.parquet", [{"url": url, "caption": "c"} for url in urls])
        (step,) = plan(
            parse_recipe(
                {
                    "name": "test",
                    "sources": [source(folder / "a.parquet")],
                    "ingest": {"rows_per_fragment": per_fragment},
                }
            ),
            until="ingest",
        )
        peaks = []
        # Tables of the interpreter, as that of interned texts, grow at times by megabytes.
        for store in ("first", "second"):
            memory = DriverMemory()
            with memory.counting():
                run_step(step, Store(folder / store), memory)
            peaks.append(memory.peak)
        return min(peaks)

    held(100, 100, 100)
    small, cut, repeated = held(500, 100, 500), held(2_000, 20, 2_000), held(2_000, 20, 200)
    spec = recipe(2_000 - 600, ingest={"rows_per_fragment": 20})
    planned = by_stage(spec, ENCODERS, Assumptions())["ingest"].driver
    assert cut - small <= planned <= 10 * (cut - small)
    assert repeated <= 1.1 * cut


def test_a_stage_holds_some_kilobytes_for_a_fragment(tmp_path: Path) -> None:
    (step,) = (step for step in plan(parse_recipe(SPEC)) if step.name == "screen")

    def held(fragments: int) -> int:
        store, memory = Store(tmp_path / str(fragments)), DriverMemory()
        row = {"role": "pool", "source": "web", "status": "ok", "caption": "", "bytes": 100}
        row |= {"image": PICTURES[1], "original_width": 200, "original_height": 200}
        rows = {
            f"web-{n:08d}": [row | {"pair_id": image_id(n), "image_id": image_id(n)}]
            for n in range(fragments)
        }
        commit(store, "images", rows)
        with memory.counting():
            run_step(step, store, memory)
        return memory.peak

    held(5)
    growth = (held(120) - held(20)) / 100
    assert growth <= PART_ON_DRIVER <= 4 * growth


@pytest.mark.parametrize("verify", [{}, {"k": 64}])
def test_the_paper_fits_a_driver_of_16_gib(root: Path, verify: dict[str, int]) -> None:
    paper = load_recipe(root / "conf" / "recipes" / "lvd142m.yaml")
    spec = paper.model_dump(exclude_none=True)
    spec["dedup"]["verify"] = verify
    assumed = Assumptions(fetched=1, near_pairs=8)
    # Of its encoder, a ViT-H/14.
    encoders = dict.fromkeys(paper.embed.encoders, EncoderProfile(dim=1280, flop=3.4e11))
    works = by_stage(parse_recipe(spec), encoders, assumed)
    assert works["verify"].rows > 5e9
    assert {name: w.driver for name, w in works.items() if w.driver > 16 * 2**30} == {}
