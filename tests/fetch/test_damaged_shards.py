"""Shards of an unfinished download whose bytes changed are left out: their rows are fetched again."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.stages.fetch.sample_schema import IMAGE_FORMAT, SCHEMA
from curation.stages.fetch.work_shards import WorkShards
from curation.store.store import Store
from curation.store.work_folder import WorkFolder

ROWS = 8
FLIPS = 1500


def shard(keys: list[int]) -> pa.Table:
    rows = [{"key": str(key), "status": "ok", "stored_bytes": 10} for key in keys]
    images = pa.array([b"picture %d" % key for key in keys], pa.binary())
    return pa.Table.from_pylist(rows, schema=SCHEMA).append_column(IMAGE_FORMAT, images)


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    return WorkFolder(Store(tmp_path), f"work/images/{'0' * 32}", "a-1-b")


def write(work: WorkFolder, number: int, table: pa.Table, rows_of_group: int = ROWS) -> Path:
    path = Path(work.store.uri, work.attempt, f"{number:05d}.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=rows_of_group)
    return path


def test_any_changed_bit_is_damage_or_nothing(work: WorkFolder) -> None:
    path, rng = write(work, 0, shard(list(range(ROWS)))), random.Random(1)
    whole = path.read_bytes()
    for _ in range(FLIPS):
        place = rng.randrange(len(whole))
        changed = bytes([whole[place] ^ 1 << rng.randrange(8)])
        path.write_bytes(whole[:place] + changed + whole[place + 1 :])
        WorkShards(work, ROWS).scan()


@pytest.mark.parametrize("last", ["x", "-1", str(ROWS), None])
def test_a_shard_that_is_damaged_at_its_end_leaves_no_row(
    work: WorkFolder, last: str | None
) -> None:
    """The rows of its beginning passed for rows of the next shard."""
    damaged = shard([0, 1, 2, 3])
    keys = pa.array(["0", "1", "2", last], pa.string())
    write(work, 0, damaged.set_column(0, "key", keys), rows_of_group=2)
    write(work, 1, shard([4, 5]))
    shards = WorkShards(work, ROWS)
    shards.scan()
    assert np.flatnonzero(shards.done).tolist() == [4, 5]
    samples, index = shards.read(0, ROWS)
    assert samples is not None
    assert samples.column("key").take(pa.array(index[4:6])).to_pylist() == ["4", "5"]
