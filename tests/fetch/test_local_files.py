"""Pictures inside files: what cannot be read of one costs its own rows."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.media.files import parquet_reading
from tests.ingest.helpers import jpeg, run, source, table


def images(path: Path) -> Path:
    rows = [jpeg(i, (200, 100 + i)) for i in range(9)]
    columns = {"key": [str(i) for i in range(9)], "image": pa.array(rows, pa.binary())}
    pq.write_table(pa.table(columns), path, row_group_size=3, use_dictionary=False)
    return path


def reasons(tmp_path: Path, path: Path) -> dict[str, str | None]:
    columns = {"key": "key", "image": "image"}
    run(tmp_path / "store", source(path, columns=columns), until="fetch")
    rows = table(tmp_path / "store", "images").read().to_pylist()
    return {row["source_key"]: row["reason"] for row in rows}


def test_a_damaged_row_group_fails_its_own_pictures(tmp_path: Path) -> None:
    path = images(tmp_path / "l.parquet")
    column = pq.read_metadata(path).row_group(1).column(1)
    with path.open("r+b") as file:
        file.seek(column.data_page_offset)
        file.write(b"\xff" * 20)
    row_reasons = reasons(tmp_path, path)
    expected = [None] * 3 + ["unreadable"] * 3 + [None] * 3
    assert [row_reasons[str(i)] for i in range(9)] == expected


def test_pictures_of_a_row_group_that_is_too_large_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = images(tmp_path / "l.parquet")
    size = pq.read_metadata(path).row_group(2).column(1).total_uncompressed_size
    monkeypatch.setattr(parquet_reading, "PARQUET_BYTES", size)
    monkeypatch.setattr(parquet_reading, "BATCH_BYTES", 100)
    row_reasons = reasons(tmp_path, path)
    assert set(row_reasons.values()) == {"too_large"}
    monkeypatch.setattr(parquet_reading, "PARQUET_BYTES", 20 * size)
    assert set(reasons(tmp_path / "again", path).values()) == {None}
