"""The files of the dataset: their order and size follow from the images and the seed alone."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.engine.context import Context
from curation.engine.exchange import Exchange, exchange_records
from curation.engine.parallel import InProcess
from curation.engine.table import Table, open_table
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.stages.assemble import stage
from curation.stages.assemble.params import AssembleStep
from curation.store.manifest import FragmentRecord
from curation.store.store import Store

from ..tables import commit, commit_empty_inputs, run_step
from .random_world import image_id

IMAGES = 60
PIXELS = 1_000


def row(number: int) -> dict[str, Any]:
    """A row of every table that assemble reads."""
    image = image_id(number)
    return {
        "pair_id": f"pair-{number}",
        "image_id": image,
        "role": "pool",
        "source": "web",
        "source_key": str(number),
        # Every third image is on the web.
        "url": None if number % 3 else f"http://web.example/{number}",
        "status": "ok",
        "reason": None,
        "cluster_id": number % 4,
        "sha256": image * 2,
        "width": 10,
        "height": 10,
        "image": bytes([number]) * PIXELS,
        "arm": "everything",
        "strategy": "everything",
    }


def assembled(folder: str | Path, cuts: list[int], seed: int = 0, **fields: Any) -> Table:
    """The dataset made of fragments that begin at some numbers of images."""
    store = Store(folder)
    bounds = [0, *sorted(set(cuts)), IMAGES]
    rows = {
        f"web-{part:03d}": [row(n) for n in range(first, last)]
        for part, (first, last) in enumerate(pairwise(bounds))
        if last > first
    }
    for table in ("images", "claims", "assignments"):
        commit(store, table, rows)
    commit_empty_inputs(store, ["assemble"], rows)
    source = {"name": "web", "role": "pool", "format": "parquet", "path": "p"}
    columns = {"columns": {"url": "url", "image": "image"}}
    spec = {"name": "a", "seed": seed, "sources": [source | columns], "assemble": fields}
    run_step(plan(parse_recipe(spec))[-1], store, InProcess())
    return open_table(store, "dataset")


def sizes(dataset: Table) -> list[int]:
    """The number of images of each file."""
    return [f.rows for f in dataset.fragments.values()]


def files(dataset: Table) -> list[str]:
    """The checksums of the files."""
    return [file.sha256 for record in dataset.manifest.fragments for file in record.files]


def order(dataset: Table) -> list[int]:
    """The numbers of the images in the order of the dataset."""
    return [int(key) for key in dataset.read(["source_key"]).column(0).to_pylist()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """The dataset made of one fragment, in files of at most 7 images."""
    return assembled(tmp_path_factory.mktemp("whole"), [], rows_per_file=7)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, IMAGES - 1), max_size=6))
def test_files_are_the_same_however_the_input_is_cut(whole: Table, cuts: list[int]) -> None:
    with TemporaryDirectory() as folder:
        assert files(assembled(folder, cuts, rows_per_file=7)) == files(whole)


@pytest.mark.parametrize("rows_at_once", [1, 7, 30])
def test_files_are_the_same_if_workers_sort_the_sizes(
    tmp_path: Path, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"rows_per_file": 7, "bytes_per_file": 9_000, "pixels": True}
    expected = files(assembled(tmp_path / "driver", [20], **limits))
    monkeypatch.setattr(stage, "ROWS_AT_ONCE", rows_at_once)
    assert files(assembled(tmp_path / "workers", [20], **limits)) == expected


@given(
    st.lists(st.integers(1, 20), max_size=30),
    st.lists(st.integers(0, 30), max_size=5),
    st.integers(1, 6),
    st.integers(1, 40),
)
def test_cuts_do_not_depend_on_pieces(
    sizes: list[int], bounds: list[int], rows: int, largest: int
) -> None:
    """Files are filled one row after another."""
    expected, held = [], [0, 0]
    for key, size in enumerate(sizes):
        if held[0] and (held[0] == rows or held[1] + size > largest):
            expected.append(key)
            held = [0, 0]
        held = [held[0] + 1, held[1] + size]
    ends = [0, *sorted(bounds), len(sizes)]
    pieces = [
        (np.arange(a, b, dtype=np.uint64), np.array(sizes[a:b], np.int64))
        for a, b in pairwise(min(end, len(sizes)) for end in ends)
    ]
    params = AssembleStep(pixels="none", rows_per_file=rows, bytes_per_file=largest, seed=0, run="")
    assert stage.file_cuts(pieces, params).tolist() == expected


def test_a_task_does_not_grow_with_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be ten thousand files, and a hundred thousand tasks."""
    largest: list[int] = []

    def noted(job: Exchange, context: Context) -> Iterator[FragmentRecord]:
        largest.append(max(len(pickle.dumps(task)) for task in job.inputs["rows"].tasks))
        return exchange_records(job, context)

    monkeypatch.setattr(stage, "exchange_records", noted)
    for rows in (IMAGES, 1):
        assembled(tmp_path / str(rows), [20], rows_per_file=rows)
    few, many = largest
    assert many - few < IMAGES


def test_rows_are_shuffled_by_the_seed(whole: Table, tmp_path: Path) -> None:
    shuffled = order(whole)
    assert sorted(shuffled) == list(range(IMAGES))
    # Each half of the input has its share of each half of the dataset.
    assert IMAGES / 8 < sum(n < IMAGES / 2 for n in shuffled[: IMAGES // 2]) < 3 * IMAGES / 8
    other = order(assembled(tmp_path / "b", [], seed=1, rows_per_file=7))
    assert sorted(other) == sorted(shuffled) and other != shuffled


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 70), st.integers(1_024, 40_000))
def test_no_file_exceeds_its_limits(rows: int, size: int) -> None:
    with TemporaryDirectory() as folder:
        limits = {"rows_per_file": rows, "bytes_per_file": size}
        dataset = assembled(folder, [20], pixels=True, **limits)
        assert sum(sizes(dataset)) == IMAGES
        for images in sizes(dataset):
            assert images == 1 or (images <= rows and images * PIXELS <= size)
        # No file is much smaller than it may be, but the last.
        full = min(rows, size // (2 * PIXELS))
        assert all(images >= full for images in sizes(dataset)[:-1])


def test_images_without_a_url_are_kept(whole: Table) -> None:
    rows = whole.read(["source_key", "image"]).to_pylist()
    for row in rows:
        number = int(row["source_key"])
        assert row["image"] == (bytes([number]) * PIXELS if number % 3 else None)


@pytest.mark.parametrize(("pixels", "kept"), [(True, IMAGES), (False, 0)])
def test_pixels_of_all_or_none(tmp_path: Path, pixels: bool, kept: int) -> None:
    table = assembled(tmp_path, [], pixels=pixels).read()
    assert ("image" in table.column_names) == pixels
    assert (IMAGES - table.column("image").null_count if pixels else 0) == kept
