"""No footer ends the process: pyarrow passes no exception on where it looks at a column."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import StoreError
from curation.media.files.parquet_footer import read_footer
from curation.media.files.parquet_reading import BoundedParquet
from curation.media.files.thrift import ThriftError
from tests.ingest.helpers import pairs, source
from tests.ingest.test_fuzzed_files import KINDS, WHOLE, check

PARQUET = [name for name in KINDS if WHOLE[name].startswith(b"PAR1")]


def footer(content: bytes) -> range:
    """The places of the footer."""
    end = len(content) - 8
    return range(end - int.from_bytes(content[-8:-4], "little"), end)


def changed(content: bytes, count: int, draw: random.Random) -> Iterator[bytes]:
    """Yield the file with some bytes of its footer changed."""
    places = footer(content)
    for _ in range(count):
        other = bytearray(content)
        for _ in range(draw.choice((1, 1, 2, 3))):
            at = draw.choice(places)
            other[at] = draw.choice((draw.randrange(256), other[at] ^ 1 << draw.randrange(8)))
        yield bytes(other)


def ends_well(work: Callable[[], None]) -> bool:
    """Whether a child of this process that does some work ends by itself, without an error."""
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("name", PARQUET)
@pytest.mark.parametrize("count", [100, pytest.param(5000, marks=pytest.mark.nightly)])
def test_a_footer_with_changed_bytes_ends_nothing(tmp_path: Path, name: str, count: int) -> None:
    draw = random.Random(11)

    def work() -> None:
        for content in changed(WHOLE[name], count, draw):
            check(name, content, tmp_path)

    assert ends_well(work)


def with_short_statistics(value: bytes, kind: pa.DataType) -> bytes:
    """Parquet with pictures of a fixed size, whose least value is cut to a byte in the statistics."""
    out = io.BytesIO()
    columns = {"key": ["1", "2"], "image": pa.array([value, value], kind)}
    pq.write_table(pa.table(columns), out, compression="none", use_dictionary=False)
    content = out.getvalue()
    places = footer(content)
    end = content[places.start : places.stop]
    short = end.replace(bytes([len(value)]) + value, b"\x01" + value[:1])
    assert len(short) < len(end)
    return content[: places.start] + short + len(short).to_bytes(4, "little") + b"PAR1"


@pytest.mark.parametrize("kind", [pa.binary(4), pa.binary(60)])
def test_statistics_that_are_no_values_of_their_type_end_nothing(
    tmp_path: Path, kind: pa.FixedSizeBinaryType
) -> None:
    content = with_short_statistics(b"\xff\xd8\xffx"[:4].ljust(kind.byte_width, b"z"), kind)
    path = tmp_path / "l.parquet"
    path.write_bytes(content)

    def work() -> None:
        rows = pairs(tmp_path / "s", source(path, columns={"image": "image", "key": "key"}))
        assert [(row["source_key"], row["reason"]) for row in rows] == [("1", None), ("2", None)]

    assert ends_well(work)
    # Nothing but the number of nulls is read, and it is the one that Arrow wrote.
    with_nulls = pa.table({"a": [1, None, None], "b": ["x", "y", None]})
    out = io.BytesIO()
    pq.write_table(with_nulls, out, row_group_size=2)
    assert read_footer(out).nulls == [[1, 0], [1, 1]]
    pq.write_table(with_nulls, out := io.BytesIO(), write_statistics=False)
    assert read_footer(out).nulls == [[None, None]]


def test_a_column_of_an_unknown_compression_or_type_is_refused() -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"a": ["x"]}), out, compression="none")
    whole, refused = out.getvalue(), set()
    for at in footer(whole):
        content = whole[:at] + b"\x7f" + whole[at + 1 :]
        try:
            read_footer(io.BytesIO(content))
        except ThriftError as error:
            refused.add(str(error))
        except ValueError:
            continue
    assert {
        "the compression of a column is not known",
        "a column has another type than the schema says",
    } <= refused


ROWS: dict[str, list[Any]] = {"a": [1, None], "b": [["x"], []], "c": [{"d": [1.5]}, None]}


def by_duckdb(path: Path) -> None:
    rows = pa.table(ROWS)
    duckdb.from_arrow(rows).write_parquet(str(path))


@pytest.mark.parametrize(
    "write",
    [
        by_duckdb,
        lambda path: pl.DataFrame(ROWS).write_parquet(path),
        lambda path: pd.DataFrame(ROWS).to_parquet(path),
        lambda path: pq.write_table(pa.table(ROWS), path, write_page_index=True),
        lambda path: pq.write_table(pa.table(ROWS).slice(0, 0), path),
        lambda path: pq.write_table(pa.table({}), path),
    ],
)
def test_footers_of_other_writers_are_read(tmp_path: Path, write: Callable[[Path], Any]) -> None:
    write(tmp_path / "f.parquet")
    with (tmp_path / "f.parquet").open("rb") as stream:
        parquet = BoundedParquet(pa.PythonFile(stream, "r")).file
        assert parquet.metadata.num_rows in (0, 2)


@pytest.mark.parametrize("opening", [b"\x1c", b"\x19\x19"], ids=["structures", "lists"])
@pytest.mark.parametrize("depth", [40, 20_000])
def test_values_that_are_nested_deep_are_refused(opening: bytes, depth: int) -> None:
    """The reader of a footer calls itself for each level."""
    nested = opening[:1] + opening[-1:] * (depth - 1) + bytes(depth + 1)
    content = b"PAR1" + nested + len(nested).to_bytes(4, "little") + b"PAR1"
    with pytest.raises(ThriftError, match="nested too deep"):
        read_footer(io.BytesIO(content))


def test_columns_that_are_nested_deep_are_refused(tmp_path: Path) -> None:
    """Arrow calls itself for each level of the schema, and has no bound."""

    def read(depth: int) -> list[str | None]:
        kind: pa.DataType = pa.int32()
        for _ in range(depth):
            kind = pa.struct([pa.field("a", kind)])
        path = tmp_path / f"{depth}.parquet"
        table = pa.table({"url": ["https://a.example/1.jpg"], "nested": pa.array([None], kind)})
        pq.write_table(table, path)
        listed = source(path, columns={"url": "url"})
        return [row["reason"] for row in pairs(tmp_path / f"s{depth}", listed)]

    assert read(20) == [None]
    with pytest.raises(StoreError, match="nested in more than 32 others"):
        read(40)
