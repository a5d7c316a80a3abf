"""The store after a crash, after a file has vanished, and with damaged files and records."""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.engine.compute import Stale
from curation.engine.context import Context
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.engine.units import StageOutput, content_of
from curation.errors import StoreError
from curation.store.dataset_files import publish
from curation.store.fragment import Fragment
from curation.store.manifest import Committed, FileEntry
from curation.store.manifest_file import HEADER, read_manifest, write_manifest
from curation.store.run_log import StageSummary, recorded_run
from curation.store.sealed_json import seal, unseal
from curation.store.store import Store
from curation.store.verification import verify_store

from .tables import commit, hand_made


def numbers(start: int, stop: int) -> StageOutput:
    """A stage: rows of one column, in batches of four."""
    for low in range(start, stop, 4):
        yield pa.RecordBatch.from_pydict({"n": list(range(low, min(low + 4, stop)))})
    return {"rows": stop - start}


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(Store(tmp_path / "store"), InProcess(), "test", "salt")


def compute(context: Context, **options: Any) -> dict[str, Fragment]:
    items = {"a": {"start": 0, "stop": 10}, "b": {"start": 10, "stop": 13}}
    return context.compute("numbers", numbers, items, **options)


def files(context: Context) -> list[str]:
    return sorted(context.store.storage.files("work/test/data"))


def test_rows_that_are_computed_again_and_are_the_same_keep_their_files(context: Context) -> None:
    first, written = compute(context), files(context)
    again = compute(replace(context, stale=Stale(everything=True)))
    assert again == first
    assert files(context) == written


def test_rows_that_are_computed_again_and_differ_replace_the_record(context: Context) -> None:
    """Also the files of the same rows do, where one was lost."""
    record, store = compute(context)["a"].record, context.store
    other = replace(record, files=(replace(record.files[0], path="work/test/data/b", sha256="b"),))
    assert store.put_record(other) == other
    store.storage.delete(f.path for f in record.files)
    same = compute(context)["a"].record
    assert same.content == record.content
    assert store.finished_records(record.table_dir, [record.memo]) == {record.memo: same}


def test_a_damaged_file_does_not_take_the_place_of_the_same_rows(context: Context) -> None:
    """Its size is right, so that only its checksum tells."""
    record, store = compute(context)["a"].record, context.store
    before = store.put_version(hand_made("scores", "v", [record], {}))
    folder = publish(store, "v", [record])
    (file,) = record.files
    content = store.storage.read(file.path)
    assert content is not None
    for path in (file.path, folder[0].files[0].path):
        store.storage.write(path, content[:100] + bytes(8) + content[108:])
    again = compute(replace(context, stale=Stale(everything=True)))
    assert again["a"].read().column("n").to_pylist() == list(range(10))
    assert again["a"].record.files != record.files
    after = hand_made("scores", "v", [again["a"].record], {})
    assert (store.put_version(after), after.version) == (after, before.version)
    assert publish(store, "v", [again["a"].record]) == folder
    assert store.are_whole(folder[0].files)


def test_a_version_that_is_whole_keeps_its_files(context: Context) -> None:
    record, store = compute(context)["a"].record, context.store
    before = store.put_version(hand_made("scores", "v", [record], {}))
    store.storage.copy(record.files[0].path, "work/test/data/other")
    other = replace(record, files=(replace(record.files[0], path="work/test/data/other"),))
    assert store.put_version(hand_made("scores", "v", [other], {})) == before


def test_finished_work_is_reused(context: Context) -> None:
    first = compute(context)
    written = files(context)
    second = compute(context)
    assert files(context) == written
    assert second == first
    assert first["a"].read().column("n").to_pylist() == list(range(10))
    assert first["a"].record.stats == {"rows": 10}


def test_rows_per_file_splits_and_keeps_order(context: Context) -> None:
    split = compute(context, rows_per_file=3)["a"]
    assert [f.rows for f in split.record.files] == [3, 3, 3, 1]
    assert split.read().column("n").to_pylist() == list(range(10))


@pytest.mark.parametrize("damage", ["vanished", "truncated", "record"])
def test_a_damaged_work_table_is_computed_anew(context: Context, damage: str) -> None:
    first = compute(context)
    path = first["a"].record.files[0].path
    if damage == "vanished":
        context.store.storage.delete([path])
    elif damage == "truncated":
        content = context.store.storage.read(path)
        assert content is not None
        context.store.storage.write(path, content[: len(content) // 2])
    else:
        context.store.storage.delete([f"work/test/done/{first['a'].record.memo}.json"])
    second = compute(context)
    assert second["a"].read() == first_rows()
    assert second["b"] == first["b"]


def first_rows() -> pa.Table:
    return pa.table({"n": list(range(10))})


def test_reading_a_damaged_file_names_it(context: Context) -> None:
    fragment = compute(context)["a"]
    path = fragment.record.files[0].path
    context.store.storage.write(path, b"PAR1 is not enough")
    with pytest.raises(StoreError, match=path):
        fragment.read()
    context.store.storage.delete([path])
    with pytest.raises(StoreError, match="has vanished"):
        fragment.read()


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"PAR1 is not enough"])
def test_a_damaged_manifest_is_an_error_that_says_so(tmp_path: Path, damage: bytes) -> None:
    store = Store(tmp_path)
    commit(store, "pairs", {})
    store.storage.write(f"tables/pairs/versions/{store.versions('pairs')[0]}.parquet", damage)
    with pytest.raises(StoreError, match=r"manifest of version .* is missing, damaged, or"):
        open_table(store, "pairs")


@pytest.mark.parametrize(
    "place", ["{folder}/mine.parquet", "../mine.parquet", "tables/../../mine.parquet"]
)
def test_nothing_outside_of_a_store_is_touched_for_its_manifest(tmp_path: Path, place: str) -> None:
    store, mine = Store(tmp_path / "store"), tmp_path / "mine.parquet"
    mine.write_bytes(b"mine")
    commit(store, "pairs", {"a": []})
    (path,) = store.storage.files("tables/pairs/versions")
    content = store.storage.read(path) or b""
    manifest = read_manifest(content, "pairs", PurePosixPath(path).stem)
    entry = FileEntry("x", 1, "0" * 64, 1)
    object.__setattr__(entry, "path", place.format(folder=tmp_path))
    (first, *others) = manifest.fragments
    fragments = (replace(first, files=(entry,)), *others)
    store.storage.write(path, write_manifest(replace(manifest, fragments=fragments)))
    (problem, *_) = verify_store(store, set_aside=True)
    assert (problem.path, mine.read_bytes()) == (path, b"mine")
    with pytest.raises(StoreError, match="damaged"):
        open_table(store, "pairs")


def test_the_error_for_a_missing_table_lists_the_committed_ones(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"No finished run .* has a table 'images'.*none yet"):
        open_table(Store(tmp_path), "images")


@pytest.mark.parametrize("form", [None, 1, 2, "3"])
def test_what_another_version_wrote_is_ignored_and_computed_again(
    context: Context, caplog: pytest.LogCaptureFixture, form: int | str | None
) -> None:
    """Neither a manifest nor a record of another form ends a run, and nothing of it is trusted."""
    first = compute(context)
    storage = context.store.storage
    for path in storage.files("work/test/done"):
        spec = unseal(storage.read(path) or b"") | {"format": form, "books": {}}
        written = {k: v for k, v in spec.items() if v is not None}
        storage.write(path, json.dumps(written).encode() if form in (None, 1) else seal(written))
    again = compute(context)
    assert {f.path for f in again["a"].record.files} != {f.path for f in first["a"].record.files}
    assert again["a"].content == first["a"].content
    assert "written by another version of curation" in caplog.text


@pytest.mark.parametrize("form", [2, 3, "4"])
def test_a_manifest_of_another_version_is_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, form: int | str
) -> None:
    store = Store(tmp_path)
    schema = pa.schema([("name", pa.string())])
    header = {HEADER: json.dumps({"format": form}).encode()}
    out = io.BytesIO()
    pq.write_table(schema.with_metadata(header).empty_table(), out)
    store.storage.write("tables/pairs/versions/v.parquet", out.getvalue())
    assert store.manifest("pairs", "v") is None
    assert "written by another version of curation" in caplog.text


def test_a_version_is_visible_only_once_its_run_has_finished(tmp_path: Path) -> None:
    store = Store(tmp_path)
    writer = FragmentWriter(store, "tables/x/data", "a", None)
    for batch in numbers(0, 5):
        writer.write(batch)
    record = writer.close("tables/x", "memo", {})
    store.put_record(record)
    assert store.tables() == []
    manifest = hand_made("x", "v1", [record], {})
    store.put_version(manifest)
    with pytest.raises(StoreError, match=r"No finished run .* has a table 'x'") as error:
        open_table(store, "x")
    # It is no misspelling of itself.
    assert "did you mean" not in str(error.value)
    with recorded_run(store, "hand", "hand") as run:
        run.add("hand", StageSummary(5), {"x": Committed("v1", "v1")}, "hand")
        with pytest.raises(StoreError, match="No finished run") as raised:
            open_table(store, "x")
        # It is there, and the message says by which name it is seen.
        assert f"See it by --run {run.record.run}" in str(raised.value)
        assert "did you mean" not in str(raised.value)
    with pytest.raises(StoreError, match=r"has no table 'y'.*Valid: x"):
        open_table(store, "y", run=run.record.run)
    assert open_table(store, "x").read().num_rows == 5
    assert open_table(store, "x", run=run.record.run[:20]).manifest == manifest
    assert open_table(store, "x", version="v").manifest == manifest


def test_content_does_not_depend_on_names_or_places(context: Context) -> None:
    a = compute(context)["a"]
    other = Context(context.store, InProcess(), "elsewhere", "other salt")
    b = compute(other)["a"]
    assert a.record.files[0].path != b.record.files[0].path
    assert content_of(a) == content_of(b)
    assert content_of({"x": [a, 1]}) == content_of({"x": [b, 1]})


def test_a_store_can_be_pickled_for_workers(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.storage.write("a/b", b"c")
    assert pickle.loads(pickle.dumps(store)).storage.read("a/b") == b"c"


def test_unknown_file_system_is_an_error() -> None:
    with pytest.raises(StoreError, match="nosuch"):
        Store("nosuch://bucket/path")
