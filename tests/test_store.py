"""The store after a crash, after a file has vanished, and with damaged files and records."""

from __future__ import annotations

import pickle

import pyarrow as pa
import pytest

from curation.engine.context import Context
from curation.engine.fragment import Fragment
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.manifest import Manifest
from curation.engine.parallel import InProcess
from curation.engine.store import Store
from curation.engine.table import open_table
from curation.engine.units import content_of
from curation.errors import StoreError


def numbers(start: int, stop: int):
    """A stage: rows of one column, in batches of four."""
    for low in range(start, stop, 4):
        yield pa.RecordBatch.from_pydict({"n": list(range(low, min(low + 4, stop)))})
    return {"rows": stop - start}


@pytest.fixture
def context(tmp_path) -> Context:
    return Context(Store(tmp_path / "store"), InProcess(), "test", "salt")


def compute(context: Context, **options) -> dict[str, Fragment]:
    items = {"a": {"start": 0, "stop": 10}, "b": {"start": 10, "stop": 13}}
    records = context.compute("numbers", numbers, items, **options)
    return {name: Fragment(context.store, r) for name, r in records.items()}


def files(context: Context) -> list[str]:
    return sorted(context.store.sizes("work/test/data"))


def test_finished_work_is_reused(context):
    first = compute(context)
    written = files(context)
    second = compute(context)
    assert files(context) == written
    assert second == first
    assert first["a"].read().column("n").to_pylist() == list(range(10))
    assert first["a"].record.stats == {"rows": 10}


def test_rows_per_file_splits_and_keeps_order(context):
    split = compute(context, rows_per_file=3)["a"]
    assert [f.rows for f in split.record.files] == [3, 3, 3, 1]
    assert split.read().column("n").to_pylist() == list(range(10))


@pytest.mark.parametrize("damage", ["vanished", "truncated", "record"])
def test_a_damaged_work_table_is_computed_anew(context, damage):
    first = compute(context)
    path = first["a"].record.files[0].path
    if damage == "vanished":
        context.store.delete([path])
    elif damage == "truncated":
        content = context.store.get(path)
        context.store.put(path, content[: len(content) // 2])
    else:
        context.store.delete([f"work/test/done/{first['a'].record.memo}.json"])
    second = compute(context)
    assert second["a"].read() == first_rows()
    assert second["b"] == first["b"]


def first_rows() -> pa.Table:
    return pa.table({"n": list(range(10))})


def test_reading_a_damaged_file_names_it(context):
    fragment = compute(context)["a"]
    path = fragment.record.files[0].path
    context.store.put(path, b"PAR1 is not enough")
    with pytest.raises(StoreError, match=path):
        fragment.read()
    context.store.delete([path])
    with pytest.raises(StoreError, match="has vanished"):
        fragment.read()


def test_an_incomplete_manifest_is_an_error(tmp_path):
    store = Store(tmp_path)
    store.put("tables/pairs/current.json", b'{"version": "v"}')
    store.put("tables/pairs/versions/v.json", b'{"table": "pa')
    with pytest.raises(StoreError, match="damaged"):
        open_table(store, "pairs")


def test_the_error_for_a_missing_table_lists_the_committed_ones(tmp_path):
    with pytest.raises(StoreError, match=r"no committed table 'images'.*none yet"):
        open_table(Store(tmp_path), "images")


@pytest.mark.parametrize("form", [None, 1, 3, "2"])
def test_what_another_version_wrote_is_ignored_and_computed_again(context, caplog, form):
    """Neither a manifest nor a record of another form ends a run, and nothing of it is trusted."""
    first = compute(context)
    store = context.store
    for path in store.sizes("work/test/done"):
        spec = store.get_json(path) | {"format": form, "books": {}}
        store.put_json(path, {k: v for k, v in spec.items() if v is not None})
    again = compute(context)
    assert {f.path for f in again["a"].record.files} != {f.path for f in first["a"].record.files}
    assert again["a"].content == first["a"].content
    assert "written by another version of curation" in caplog.text
    store.put_json("tables/pairs/versions/v.json", {"format": form, "table": "pairs"})
    store.put_json("tables/pairs/current.json", {"version": "v"})
    assert store.manifest("pairs") is None
    with pytest.raises(StoreError, match=r"'pairs' .* was written by another version"):
        open_table(store, "pairs")


def test_a_version_is_visible_only_once_its_manifest_is_there(tmp_path):
    store = Store(tmp_path)
    writer = FragmentWriter(store, "tables/x/data", "a", None)
    for batch in numbers(0, 5):
        writer.write(batch)
    record = writer.close("tables/x", "memo", {})
    store.put_record(record)
    assert store.tables() == []
    store.commit(
        Manifest("x", "v1", "s", 1, 1, {}, {}, {}, "now", (record,), {}, {}),
    )
    assert store.tables() == ["x"]
    assert open_table(store, "x").read().num_rows == 5


def test_content_does_not_depend_on_names_or_places(context):
    a = compute(context)["a"]
    other = Context(context.store, InProcess(), "elsewhere", "other salt")
    b = compute(other)["a"]
    assert a.record.files[0].path != b.record.files[0].path
    assert content_of(a) == content_of(b)
    assert content_of({"x": [a, 1]}) == content_of({"x": [b, 1]})


def test_a_store_can_be_pickled_for_workers(tmp_path):
    store = Store(tmp_path)
    store.put("a/b", b"c")
    assert pickle.loads(pickle.dumps(store)).get("a/b") == b"c"


def test_unknown_file_system_is_an_error():
    with pytest.raises(StoreError, match="nosuch"):
        Store("nosuch://bucket/path")
