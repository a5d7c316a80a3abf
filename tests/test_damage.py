"""Files that vanish, are truncated or corrupted: the error names them, and a rerun mends them."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.engine.fragment_writer import FragmentWriter
from curation.engine.parallel import InProcess
from curation.engine.table import Table, open_table
from curation.errors import DamagedFileError, StoreError
from curation.flow import plan
from curation.inspect.api.store import OpenStore
from curation.recipe import parse_recipe
from curation.runner.inputs import set_aside_damaged
from curation.runner.step import StepResult
from curation.store.fragment import Fragment
from curation.store.store import Store

from .kmeans.data import names, planted
from .tables import ROWS_PER_BATCH, commit_vectors, run_step

DIM = 8
GROUPS = 3


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Vectors in three fragments of three row groups each, and their centroids."""
    monkeypatch.setattr("curation.engine.fragment_writer.ROW_GROUP_ROWS", ROWS_PER_BATCH)
    rng = np.random.default_rng(0)
    vectors, _ = planted(rng, ROWS_PER_BATCH * GROUPS * 3, DIM, 5)
    ids = names(rng, len(vectors))
    opened = Store(tmp_path)
    parts = zip(np.split(ids, 3), np.split(vectors, 3), strict=True)
    batches = {f"web-{number}": part for number, part in enumerate(parts)}
    commit_vectors(opened, batches, {name: {"dim": DIM} for name in batches})
    run(opened, "cluster")
    return opened


def run(store: Store, name: str) -> StepResult:
    source = {"name": "web", "role": "pool", "format": "csv", "path": "w", "columns": {"url": "u"}}
    recipe = parse_recipe({"name": "x", "sources": [source], "cluster": {"levels": [5]}})
    (step,) = (s for s in plan(recipe) if s.name == name)
    return run_step(step, store, InProcess())


def file_of(store: Store, table: str, fragment: str) -> Path:
    (entry,) = open_table(store, table).fragments[fragment].record.files
    return Path(store.address(entry.path))


def flip(path: Path, group: int, column: str) -> None:
    """Change a byte in the middle of a column of a row group; the file keeps its size."""
    metadata = pq.ParquetFile(path).metadata.row_group(group)
    chunks = {c.path_in_schema: c for c in map(metadata.column, range(metadata.num_columns))}
    chunk = chunks[column]
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content = bytearray(path.read_bytes())
    content[start + chunk.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(content)


def test_a_file_in_the_place_of_another_is_not_read(store: Store) -> None:
    """Each is whole in itself, and both have as many rows."""
    one, two = (file_of(store, "embeddings.semantic", f"web-{number}") for number in (0, 1))
    contents = one.read_bytes(), two.read_bytes()
    assert len(contents[0]) != len(contents[1])
    one.write_bytes(contents[1])
    two.write_bytes(contents[0])
    fragment = open_table(store, "embeddings.semantic").fragments["web-1"]
    readers: list[Callable[[], object]] = [
        fragment.read,
        fragment.schema,
        lambda: list(fragment.batches(["image_id"])),
        lambda: list(fragment.row_groups_with("image_id", ["a"])),
        lambda: list(fragment.row_groups_between("image_id", "a", "b")),
        lambda: OpenStore(store.uri, "hand").sql('FROM "embeddings.semantic"').fetchall(),
    ]
    for read in readers:
        with pytest.raises(StoreError, match=r"data/web-[01]\..* its record says"):
            read()
    one.write_bytes(contents[0])
    two.write_bytes(contents[1])
    assert fragment.read().num_rows == ROWS_PER_BATCH * GROUPS


def test_files_of_different_columns_are_no_table(store: Store) -> None:
    """They may be of the same size and have as many rows, so that only their columns differ."""
    table = open_table(store, "embeddings.semantic")
    (entry,) = table.fragments["web-1"].record.files
    other = pa.table({"image_id": ["a"] * entry.rows})
    path = Path(store.address(entry.path))
    pq.write_table(other, path)
    record = replace(entry, size=path.stat().st_size, footer="")
    fragments = [
        replace(f.record, files=(record,)) if f.name == "web-1" else f.record
        for f in table.fragments.values()
    ]
    mixed = Table(store, replace(table.manifest, fragments=tuple(fragments)))
    with pytest.raises(StoreError, match=r"different columns.*verify-store --set-aside"):
        mixed.read()


@pytest.mark.parametrize("column", ["vector", "image_id"])
def test_an_error_names_the_corrupted_row_group_and_a_rerun_reuses_the_rest(
    store: Store, column: str
) -> None:
    path = file_of(store, "embeddings.semantic", "web-1")
    intact = path.read_bytes()
    flip(path, 1, column)
    words = (
        rf"row group 1 \(of {GROUPS}, .* of {re.escape(str(path))} .*fragment 'web-1'.*Set damaged"
    )
    with pytest.raises(StoreError, match=words):
        run(store, "assign")
    path.write_bytes(intact)
    result = run(store, "assign")
    assert (result.computed, result.reused, result.rows) == (2, 1, 3 * GROUPS * ROWS_PER_BATCH)


@pytest.mark.parametrize("damage", ["cut off", "gone"])
def test_an_error_names_a_truncated_file_and_a_rerun_reuses_the_rest(
    store: Store, damage: str
) -> None:
    path = file_of(store, "embeddings.semantic", "web-1")
    intact = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(intact[:-100])
    with pytest.raises(StoreError, match=f"{re.escape(str(path))} (has vanished|cannot be read)"):
        run(store, "assign")
    path.write_bytes(intact)
    result = run(store, "assign")
    assert (result.computed, result.reused) == (2, 1)


def test_an_error_names_the_row_group_of_a_file_truncated_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.engine.fragment_writer.ROW_GROUP_ROWS", ROWS_PER_BATCH)
    opened = Store(tmp_path)
    writer = FragmentWriter(opened, "data", "numbers", None)
    for start in range(0, GROUPS * ROWS_PER_BATCH, ROWS_PER_BATCH):
        writer.write(pa.RecordBatch.from_pydict({"n": list(range(start, start + ROWS_PER_BATCH))}))
    fragment = Fragment(opened, writer.close("tables/numbers", "memo", {}))
    path = tmp_path / fragment.record.files[0].path
    groups = fragment.row_groups_between("n", 0, GROUPS * ROWS_PER_BATCH)
    assert next(groups).column("n").to_pylist() == list(range(ROWS_PER_BATCH))
    os.truncate(path, pq.ParquetFile(path).metadata.row_group(2).column(0).dictionary_page_offset)
    assert next(groups).num_rows == ROWS_PER_BATCH
    with pytest.raises(StoreError, match=rf"row group 2 .* of {re.escape(str(path))}"):
        next(groups)


def test_the_remedy_in_the_error_works(store: Store) -> None:
    """A corrupted file keeps its size, so it must be set aside to be computed anew."""
    run(store, "assign")
    expected = open_table(store, "assignments").read()
    path = file_of(store, "assignments", "web-0")
    flip(path, 0, "similarity")
    with pytest.raises(
        DamagedFileError,
        match=r"\(curation verify-store --set-aside --store .*\), then run the whole recipe",
    ) as caught:
        open_table(store, "assignments").read()
    set_aside_damaged(caught.value, store)
    assert not path.exists()
    result = run(store, "assign")
    assert (result.computed, result.reused) == (1, 2)
    assert open_table(store, "assignments").read() == expected


def test_a_shell_takes_the_command_in_the_error(tmp_path: Path) -> None:
    """Addresses have `&` between their options."""
    opened = Store(tmp_path / "my store")
    writer = FragmentWriter(opened, "data", "numbers", None)
    writer.write(pa.RecordBatch.from_pydict({"n": [1]}))
    fragment = Fragment(opened, writer.close("tables/numbers", "memo", {}))
    os.truncate(opened.address(fragment.record.files[0].path), 10)
    with pytest.raises(DamagedFileError) as caught:
        fragment.read()
    words = shlex.split(caught.value.details[0].fix.partition("(")[2].partition(")")[0])
    assert words[-2:] == ["--store", opened.uri]
