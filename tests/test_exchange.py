"""Rows that meet by their key, here and by a shuffle of Spark's; parts that are done stay done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curation.engine.context import Context
from curation.engine.exchange import (
    KEY,
    Exchange,
    ExchangeInput,
    MapTask,
    _send,
    exchange_tables,
)
from curation.engine.fragment import Fragment
from curation.engine.parallel import InProcess
from curation.engine.spark_workers import SparkWorkers
from curation.engine.store import Store
from curation.errors import CurationError, StoreError

LEFT = pa.schema([("id", pa.int64()), ("reading", pa.int64())])
RIGHT = pa.schema([("id", pa.int64()), ("name", pa.string())])
PARTS = 7
IDS = 1_000


def read_left(number: int, log: str | None = None) -> Iterator[pa.Table]:
    """Yield ids, twice, in several tables."""
    if log:
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(f"{number}\n")
    ids = np.random.default_rng(number).integers(0, IDS, 500)
    for own in (ids, ids[::-1]):
        columns = {"id": own, "reading": np.full(500, number), KEY: own.astype(np.uint64)}
        yield pa.table(columns)


def read_right() -> Iterator[pa.Table]:
    """Yield a name for each even id."""
    ids = np.arange(0, IDS, 2)
    names = pa.array([f"n{i}" for i in ids])
    yield pa.table({"id": ids, "name": names, KEY: ids.astype(np.uint64)})


def read_none() -> Iterator[pa.Table]:
    """Yield a table without rows."""
    yield pa.table({"id": np.empty(0, int), "name": [], KEY: np.empty(0, np.uint64)}).cast(
        pa.schema([*RIGHT, (KEY, pa.uint64())])
    )


def read_broken() -> Iterator[pa.Table]:
    """Yield something, then fail."""
    yield next(read_right())
    raise StoreError("a file has vanished")


def join(left: pa.Table, right: pa.Table, broken: str | None = None):
    """Give the rows on the left with their names; fail in one part while a file is there."""
    if broken and Path(broken).exists() and 3 in left.column("id").to_pylist():
        raise StoreError("killed here")
    yield (
        left.join(right, "id")
        .sort_by([("id", "ascending"), ("reading", "ascending")])
        .to_batches()[0]
    )
    return {"rows": len(left)}


def job(readings=9, right=read_right, log=None, broken=None) -> Exchange:
    given = {} if log is None else {"log": log}
    return Exchange(
        "join",
        {
            "left": ExchangeInput(
                LEFT, [MapTask(read_left, {"number": n} | given) for n in range(readings)]
            ),
            "right": ExchangeInput(RIGHT, [MapTask(right, {})]),
        },
        join,
        PARTS,
        {} if broken is None else {"broken": broken},
    )


@pytest.fixture(params=["here", "spark"])
def context(request, tmp_path):
    parallel = (
        InProcess()
        if request.param == "here"
        else SparkWorkers(lambda: request.getfixturevalue("spark"))
    )
    return Context(Store(tmp_path / "store"), parallel, "meeting", ["test"])


def rows_of(records, context) -> pa.Table:
    return pa.concat_tables([Fragment(context.store, r).read() for r in records])


def test_rows_meet_by_their_key(context, tmp_path):
    records = exchange_tables(job(), context)
    assert len(records) == PARTS
    found = rows_of(records, context).to_pandas()
    ids = np.concatenate([np.random.default_rng(n).integers(0, IDS, 500) for n in range(9)])
    assert sorted(found["id"]) == sorted(np.repeat(ids, 2))
    expected = [f"n{i}" if i % 2 == 0 else None for i in found["id"]]
    assert [n if isinstance(n, str) else None for n in found["name"]] == expected
    for number, record in enumerate(records):
        own = Fragment(context.store, record).read(["id"]).column("id").to_numpy()
        assert set(own % PARTS) == {number}
        assert record.stats["rows"] == len(own)
    # Whatever ran first, the same files; and they are found again.
    other = Context(Store(tmp_path / "other"), InProcess(), "meeting", ["test"])
    assert [r.content for r in exchange_tables(job(), other)] == [r.content for r in records]
    before = context.store.sizes("work/meeting/data")
    assert exchange_tables(job(), context) == records
    assert context.store.sizes("work/meeting/data") == before


def read_several() -> Iterator[pa.Table]:
    """Yield ids that go to three keys each, two of which may be of one part."""
    ids = np.arange(IDS)
    keys = np.stack([ids, ids + PARTS, ids * 31 + 1], 1).astype(np.uint64)
    own = pa.FixedSizeListArray.from_arrays(pa.array(keys.ravel()), 3)
    yield pa.table({"id": ids, KEY: own})


def numbered(rows: pa.Table, part: int):
    """Give the rows with the number of their part."""
    yield rows.append_column("part", pa.array([part] * len(rows))).to_batches()[0]
    return None


def test_rows_of_several_keys_go_to_the_part_of_each_once(context):
    given = ExchangeInput(pa.schema([("id", pa.int64())]), [MapTask(read_several, {})])
    records = exchange_tables(
        Exchange("number", {"rows": given}, numbered, PARTS, pass_part=True), context
    )
    found = rows_of(records, context)
    pairs = set(zip(*(found.column(n).to_pylist() for n in ("id", "part")), strict=True))
    assert pairs == {(i, key % PARTS) for i in range(IDS) for key in (i, i * 31 + 1)}
    assert len(found) == len(pairs)


def test_messages_are_small(context, monkeypatch):
    """What is sent is cut where the driver says: the readers here are its own process."""
    whole = [r.content for r in exchange_tables(job(), context)]
    monkeypatch.setattr("curation.engine.exchange.MESSAGE_BYTES", 512)
    sent = [own for _, own in _send(("left", 0, MapTask(read_left, {"number": 0})), 2, {0, 1})]
    assert len(sent) > 20
    assert max(len(packed) for *_, packed in sent) < 2048
    other = Context(Store(context.store.uri + "-cut"), InProcess(), "meeting", ["test"])
    assert [r.content for r in exchange_tables(job(), other)] == whole


def test_parts_without_rows_have_their_columns(context):
    records = exchange_tables(job(readings=1, right=read_none), context)
    assert rows_of(records, context).column("name").null_count == 1000


def passed_on(rows: pa.Table):
    """Give the rows as they are."""
    yield pa.RecordBatch.from_pylist(rows.to_pylist(), schema=rows.schema)
    return None


def test_inputs_without_readings_keep_their_own_columns(context):
    for schema in (LEFT, RIGHT):
        job = Exchange("nothing", {"rows": ExchangeInput(schema, [])}, passed_on, 2)
        assert rows_of(exchange_tables(job, context), context).schema == schema


def test_what_cannot_be_read_stops_every_part(context):
    with pytest.raises(CurationError, match="a file has vanished"):
        exchange_tables(job(right=read_broken), context)
    assert not context.store.sizes("work/meeting/done")


def test_a_stopped_exchange_goes_on_with_the_parts_that_are_missing(context, tmp_path):
    log, broken = tmp_path / "log", tmp_path / "broken"
    broken.write_text("")
    given = {"log": str(log), "broken": str(broken)}
    with pytest.raises(CurationError, match="killed here"):
        exchange_tables(job(**given), context)
    done = set(context.store.sizes("work/meeting/done"))
    assert 0 < len(done) < PARTS
    broken.unlink()
    found = exchange_tables(job(**given), context)
    assert done < set(context.store.sizes("work/meeting/done"))
    whole = [Fragment(context.store, r).read() for r in exchange_tables(job(), context)]
    assert [Fragment(context.store, r).read() for r in found] == whole
    # Nothing is read again when nothing is missing.
    log.unlink()
    exchange_tables(job(**given), context)
    assert not log.exists()
