"""Files are searched in bounded memory."""

from __future__ import annotations

import secrets
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.engine.contract import contract, contracts
from curation.runner.takedown.file_search import FileSearch
from curation.store.store import Store
from curation.store.tombstones import Takedowns, Tombstone, sorted_hashes
from curation.store.withheld import nested_ids

ROWS = 50_000
LIMIT = 5 * 2**20
"""About half of what all ids of the file need."""


def test_a_file_of_many_ids_takes_no_more_memory_than_one_of_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of `neighbours` has up to ten million rows, each with two ids."""
    monkeypatch.setattr("curation.runner.takedown.file_search.MAX_KNOWN", 2_000)
    digits = secrets.token_hex(16 * ROWS)
    ids = [digits[start : start + 32] for start in range(0, len(digits), 32)]
    del digits
    table = pa.table({"image_a": pa.array(ids, pa.string())})
    (tmp_path / "tables" / "neighbours").mkdir(parents=True)
    pq.write_table(table, tmp_path / "tables" / "neighbours" / "a.parquet")
    empty = Takedowns(bytes(32))
    hashes = {"image": sorted_hashes(empty, "image", [ids[7], ids[-7], "0" * 32])}
    del table, ids
    takedowns = Takedowns(empty.key, (Tombstone("t", "now", "who", "why", hashes),))
    storage = Store(tmp_path).storage
    tracemalloc.start()
    try:
        hits = FileSearch(takedowns).search(storage, "tables/neighbours/a.parquet")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (hits.read, hits.rows) == (ROWS, 2)
    assert peak < LIMIT


NESTED = [
    (name, column.name, field)
    for name, table in contracts().items()
    for column in table.arrow_schema()
    for field in nested_ids(column.type)
]
"""Tables, their columns with lists of structures, and the fields of these with the id of a row."""


@pytest.mark.parametrize(("table", "column", "field"), NESTED)
def test_an_id_in_a_list_is_found(table: str, column: str, field: str, tmp_path: Path) -> None:
    """A seed in the claims on an image, or a copy that its row lists: readers got them."""
    kind = contract(table).arrow_schema().field(column).type
    identity = secrets.token_hex(16)
    rows = pa.table({column: pa.array([None, [], [{field: identity}], [{field: "0" * 32}]], kind)})
    pq.write_table(rows, tmp_path / "a.parquet")
    empty = Takedowns(bytes(32))
    hashes = {"image": sorted_hashes(empty, "image", [identity])}
    takedowns = Takedowns(empty.key, (Tombstone("t", "now", "who", "why", hashes),))
    assert FileSearch(takedowns).search(Store(tmp_path).storage, "a.parquet").rows == 1


def test_rows_that_list_many_copies_take_the_memory_of_one(tmp_path: Path) -> None:
    kind = contract("copies").arrow_schema().field("copies").type
    copies = [{"pair_id": f"{n:032x}", "caption": "a picture"} for n in range(1000)]
    rows = pa.table({"copies": pa.array([copies] * 24, kind)})
    pq.write_table(rows, tmp_path / "a.parquet")
    del rows
    takedowns, storage = Takedowns(bytes(32)), Store(tmp_path).storage
    tracemalloc.start()
    try:
        hits = FileSearch(takedowns).search(storage, "a.parquet")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert hits.read == 24
    assert peak < LIMIT
