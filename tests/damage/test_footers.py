"""A flipped bit anywhere in a Parquet file is damage or nothing; in its footer it is damage."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from curation.engine.table import open_table
from curation.errors import DamagedFileError
from curation.inspect.api.sql import DAMAGED, QueryError, SqlSession, call_duckdb
from curation.store.checked_parquet import END_BYTES
from curation.store.fragment import Fragment
from curation.store.store import Store

from .conftest import Finished

FOOTER = 5000
"""Bytes at the end of a file in which most of its metadata is."""
FLIPS = 30
"""Flipped bits of each file, in `make test`."""


def documents(fragment: Fragment) -> list[str]:
    """Return the documentation of all columns, as readers of other programs get it."""
    schema = fragment.schema()
    assert schema is not None
    return [text.decode() for field in schema for text in (field.metadata or {}).values()]


def counted_by_sql(fragment: Fragment) -> None:
    """Count the rows of the table of a fragment by its statistics."""
    table = fragment.record.table_dir.removeprefix("tables/")
    with closing(SqlSession({table: open_table(fragment.store, table)})) as session:
        rows = session.query(f"SELECT count(*) FROM {table} WHERE source < 'z'")
        try:
            call_duckdb(rows.fetchall)
        except QueryError as error:
            # DuckDB does not say which file it was.
            assert error.details[0].fix == DAMAGED
            raise DamagedFileError("a page", path="", sha256="") from error


READS: tuple[Callable[[Fragment], Any], ...] = (
    documents,
    lambda fragment: fragment.read(),
    lambda fragment: list(fragment.batches(["source"])),
    lambda fragment: list(fragment.row_groups_with("source", ["a", "b"])),
    lambda fragment: list(fragment.row_groups_between("source", "a", "b")),
    counted_by_sql,
)


def fragments(store: Store) -> Iterator[Fragment]:
    """Yield one fragment of some tables."""
    for table in ("copies", "pairs"):
        manifest = store.manifest(table, store.versions(table)[0])
        assert manifest is not None
        yield Fragment(store, manifest.fragments[0])


def flips(size: int, count: int, rng: random.Random) -> list[int]:
    """Return places of a file: most of them in its footer, near the end."""
    anywhere = [rng.randrange(size) for _ in range(count // 4)]
    return anywhere + [rng.randrange(max(0, size - FOOTER), size) for _ in range(count * 3 // 4)]


@pytest.mark.parametrize("flipped", [FLIPS, pytest.param(2000, marks=pytest.mark.nightly)])
def test_any_flipped_bit_is_damage_or_nothing(
    finished: Finished, tmp_path: Path, flipped: int
) -> None:
    store = finished.copy(tmp_path / "store")
    for fragment in fragments(store):
        path = Path(store.uri, fragment.record.files[0].path)
        whole = path.read_bytes()
        footer = len(whole) - END_BYTES - int.from_bytes(whole[-END_BYTES:-4], "little")
        rng = random.Random(1)
        for place in flips(len(whole), flipped, rng):
            changed = bytes([whole[place] ^ 1 << rng.randrange(8)])
            path.write_bytes(whole[:place] + changed + whole[place + 1 :])
            in_footer = place >= footer
            for read in READS:
                with pytest.raises(DamagedFileError) if in_footer else suppress(DamagedFileError):
                    read(fragment)
        path.write_bytes(whole)
