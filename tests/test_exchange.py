"""Exchanges, in process and by a Spark shuffle: rows meet by key, finished parts are reused."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.engine.context import Context
from curation.engine.exchange import (
    BYTES_AT_ONCE,
    KEY,
    MESSAGE_BYTES,
    Exchange,
    ExchangeInput,
    MapTask,
    _message_bytes,
    _send,
    exchange_tables,
    group_bounds,
    read_by_group,
)
from curation.engine.parallel import InProcess, ShuffleJob
from curation.engine.spark_workers import SparkWorkers
from curation.engine.units import StageOutput
from curation.errors import CurationError, StoreError
from curation.store.fragment import Fragment
from curation.store.store import Store

LEFT = pa.schema([("id", pa.int64()), ("reading", pa.int64())])
RIGHT = pa.schema([("id", pa.int64()), ("name", pa.string())])
PARTS = 7
IDS = 1_000


def read_left(number: int, log: str | None = None) -> Iterator[pa.Table]:
    """Yield ids twice, in two tables; append a line to `log`."""
    if log:
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(f"{number}\n")
    ids = np.random.default_rng(number).integers(0, IDS, 500)
    for keys in (ids, ids[::-1]):
        columns = {"id": keys, "reading": np.full(500, number), KEY: keys.astype(np.uint64)}
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
    """Yield a table, then fail."""
    yield next(read_right())
    raise StoreError("a file has vanished")


def join(left: pa.Table, right: pa.Table, broken: str | None = None) -> StageOutput:
    """Yield the left rows with their names; fail in one part while the file `broken` exists."""
    if broken and Path(broken).exists() and 3 in left.column("id").to_pylist():
        raise StoreError("killed here")
    yield (
        left.join(right, "id")
        .sort_by([("id", "ascending"), ("reading", "ascending")])
        .to_batches()[0]
    )
    return {"rows": len(left)}


def job(
    tasks: int = 9,
    right: Callable[[], Iterator[pa.Table]] = read_right,
    log: str | None = None,
    broken: str | None = None,
) -> Exchange:
    logged = {} if log is None else {"log": log}
    return Exchange(
        "join",
        {
            "left": ExchangeInput(
                LEFT, [MapTask(read_left, {"number": n} | logged) for n in range(tasks)]
            ),
            "right": ExchangeInput(RIGHT, [MapTask(right, {})]),
        },
        join,
        PARTS,
        {} if broken is None else {"broken": broken},
    )


@pytest.fixture(params=["here", "spark"])
def context(request: pytest.FixtureRequest, tmp_path: Path) -> Context:
    parallel = (
        InProcess()
        if request.param == "here"
        else SparkWorkers(lambda: request.getfixturevalue("spark").sparkContext)
    )
    return Context(Store(tmp_path / "store"), parallel, "meeting", ["test"])


def rows_of(tables: Iterable[Fragment]) -> pa.Table:
    return pa.concat_tables([table.read() for table in tables])


def test_rows_meet_by_their_key(context: Context, tmp_path: Path) -> None:
    tables = exchange_tables(job(), context)
    assert len(tables) == PARTS
    rows = rows_of(tables).to_pandas()
    ids = np.concatenate([np.random.default_rng(n).integers(0, IDS, 500) for n in range(9)])
    assert sorted(rows["id"]) == sorted(np.repeat(ids, 2))
    expected = [f"n{i}" if i % 2 == 0 else None for i in rows["id"]]
    assert [n if isinstance(n, str) else None for n in rows["name"]] == expected
    for number, table in enumerate(tables):
        part_ids = table.read(["id"]).column("id").to_numpy()
        assert set(part_ids % PARTS) == {number}
        assert table.stats["rows"] == len(part_ids)
    # The files do not depend on the order in which tasks end, and a second run reuses them.
    other = Context(Store(tmp_path / "other"), InProcess(), "meeting", ["test"])
    assert [r.content for r in exchange_tables(job(), other)] == [r.content for r in tables]
    before = context.store.storage.files("work/meeting/data")
    assert exchange_tables(job(), context) == tables
    assert context.store.storage.files("work/meeting/data") == before


def write_rows(fragments: list[int]) -> StageOutput:
    """Yield a row for each fragment."""
    yield pa.RecordBatch.from_arrays([pa.array(fragments, pa.int32())], ["fragment"])
    return None


def test_rows_go_to_the_group_of_their_fragment(tmp_path: Path) -> None:
    context = Context(Store(tmp_path / "store"), InProcess(), "meeting", ["test"])
    fragments = np.random.default_rng(0).integers(0, 9, 50).tolist()
    (rows,) = context.compute("rows", write_rows, {"rows": {"fragments": fragments}}).values()
    bounds = group_bounds([range(1), range(4), range(4)])
    (table,) = read_by_group(rows, bounds)
    groups = [next(n for n in range(3) if bounds[n] <= f < bounds[n + 1]) for f in fragments]
    assert table.column("fragment").to_pylist() == fragments
    assert table.column(KEY).to_pylist() == groups


def with_note(rows: pa.Table, note: str) -> StageOutput:
    """Yield the note of a part."""
    yield pa.RecordBatch.from_arrays([pa.array([note])], ["note"])
    return {"rows": len(rows)}


def noted(notes: Sequence[str]) -> Exchange:
    rows = {"rows": ExchangeInput(RIGHT, [MapTask(read_right, {})])}
    return Exchange(
        "note", rows, with_note, len(notes), part_arguments=[{"note": n} for n in notes]
    )


def test_a_part_gets_its_arguments_and_depends_on_no_others(context: Context) -> None:
    notes = list("abcdefg")
    tables = exchange_tables(noted(notes), context)
    assert rows_of(tables).column("note").to_pylist() == notes
    assert sum(table.stats["rows"] for table in tables) == IDS // 2
    changed = ["other", *notes[1:]]
    again = exchange_tables(noted(changed), context)
    assert rows_of(again).column("note").to_pylist() == changed
    same = [before == after for before, after in zip(tables, again, strict=True)]
    assert same == [False, *[True] * 6]


class Weighing(InProcess):
    """Workers that weigh what is sent with every part, and each task."""

    def exchange(self, job: ShuffleJob) -> list[Any]:
        self.shared = len(pickle.dumps(job.receive))
        self.largest = max(len(pickle.dumps(item)) for item in job.items)
        return super().exchange(job)


def test_what_goes_to_a_part_does_not_grow_with_the_arguments_of_others(tmp_path: Path) -> None:
    weights = []
    for parts in (10, 60):
        workers = Weighing()
        context = Context(Store(tmp_path / str(parts)), workers, "meeting", ["test"])
        exchange_tables(noted(["x" * 5_000] * parts), context)
        weights.append((workers.shared, workers.largest))
    assert weights[0] == pytest.approx(weights[1], abs=10)


def read_several() -> Iterator[pa.Table]:
    """Yield ids with three keys each, two of which may belong to the same part."""
    ids = np.arange(IDS)
    keys = np.stack([ids, ids + PARTS, ids * 31 + 1], 1).astype(np.uint64)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(keys.ravel()), 3)
    yield pa.table({"id": ids, KEY: lists})


def with_part(rows: pa.Table, part: int) -> StageOutput:
    """Yield the rows with the number of their part."""
    yield rows.append_column("part", pa.array([part] * len(rows))).to_batches()[0]
    return None


def test_rows_with_several_keys_go_once_to_the_part_of_each(context: Context) -> None:
    rows = ExchangeInput(pa.schema([("id", pa.int64())]), [MapTask(read_several, {})])
    tables = exchange_tables(
        Exchange("number", {"rows": rows}, with_part, PARTS, pass_part=True), context
    )
    received = rows_of(tables)
    pairs = set(zip(*(received.column(n).to_pylist() for n in ("id", "part")), strict=True))
    assert pairs == {(i, key % PARTS) for i in range(IDS) for key in (i, i * 31 + 1)}
    assert len(received) == len(pairs)


def test_messages_are_small(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is changed in this process only, so the second exchange runs in process."""
    expected = [r.content for r in exchange_tables(job(), context)]
    monkeypatch.setattr("curation.engine.exchange.MESSAGE_BYTES", 512)
    task = MapTask(read_left, {"number": 0})
    messages = [message for _, message in _send(("left", 0, task), 2, frozenset({0, 1}))]
    assert len(messages) > 20
    assert max(len(rows) for *_, rows in messages) < 2048
    other = Context(Store(context.store.uri + "-cut"), InProcess(), "meeting", ["test"])
    assert [r.content for r in exchange_tables(job(), other)] == expected


@pytest.mark.parametrize("parts", [1, 13, 100, 5_000])
def test_messages_that_wait_for_each_other_are_bounded(parts: int) -> None:
    """PySpark gathers up to ten messages for each part, at most a thousand, before it writes them."""
    gathered = min(10 * parts, 1000)
    assert gathered * _message_bytes(parts) <= BYTES_AT_ONCE
    assert (parts > 1) == (_message_bytes(parts) < MESSAGE_BYTES)


def test_parts_without_rows_have_their_columns(context: Context) -> None:
    tables = exchange_tables(job(tasks=1, right=read_none), context)
    assert rows_of(tables).column("name").null_count == 1000


def unchanged(rows: pa.Table) -> StageOutput:
    """Yield the rows as they are."""
    yield pa.RecordBatch.from_pylist(rows.to_pylist(), schema=rows.schema)
    return None


def test_inputs_without_tasks_have_their_columns(context: Context) -> None:
    for schema in (LEFT, RIGHT):
        job = Exchange("nothing", {"rows": ExchangeInput(schema, [])}, unchanged, 2)
        assert rows_of(exchange_tables(job, context)).schema == schema


def test_an_unreadable_input_stops_every_part(context: Context) -> None:
    with pytest.raises(CurationError, match="a file has vanished"):
        exchange_tables(job(right=read_broken), context)
    assert not context.store.storage.files("work/meeting/done")


def test_a_stopped_exchange_continues_with_the_missing_parts(
    context: Context, tmp_path: Path
) -> None:
    log, broken = tmp_path / "log", tmp_path / "broken"
    broken.write_text("")
    options: dict[str, Any] = {"log": str(log), "broken": str(broken)}
    with pytest.raises(CurationError, match="killed here"):
        exchange_tables(job(**options), context)
    finished = set(context.store.storage.files("work/meeting/done"))
    assert 0 < len(finished) < PARTS
    broken.unlink()
    tables = exchange_tables(job(**options), context)
    assert finished < set(context.store.storage.files("work/meeting/done"))
    expected = [table.read() for table in exchange_tables(job(), context)]
    assert [table.read() for table in tables] == expected
    # If no part is missing, nothing is read.
    log.unlink()
    exchange_tables(job(**options), context)
    assert not log.exists()
