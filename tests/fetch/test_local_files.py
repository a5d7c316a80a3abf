"""Pictures inside files: what cannot be read of one costs its own rows."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.engine.parallel import InProcess
from curation.errors import StoreError
from curation.flow import plan
from curation.media.files import parquet_reading
from curation.media.files.limits import READER_BYTES
from curation.recipe import parse_recipe
from curation.runner.step import run_step
from curation.store.store import Store
from tests.ingest.helpers import jpeg, run, source, table, write_tar


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


FETCH = """
import sys
from pathlib import Path
from curation.stages.fetch.local_files import read_local
from curation.stages.fetch.params import FetchStep
from curation.stages.fetch.request import FetchRequest
from curation.stages.fetch.sample_writer import SampleWriter
from tests.fetch.test_local_files import Shards

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024

small, large, rows, folder = *sys.argv[1:3], int(sys.argv[3]), sys.argv[4]
params = FetchStep(max_bytes=2**30)
with SampleWriter(folder, params, Shards()) as writer:
    for result in read_local([FetchRequest(0, None, f"{small}#image/0", None)], 2**30):
        writer.write_result(result)
before = peak()
wanted = [FetchRequest(row, None, f"{large}#image/{row}", None) for row in range(rows)]
with SampleWriter(folder, params, Shards()) as writer:
    for result in read_local(wanted, 2**30):
        writer.write_result(result)
        assert result.reason is None
        del result
print(peak() - before)
"""


class Shards:
    """Keeps no shard."""

    next_shard = 0

    def store(self, path: str) -> None:
        Path(path).unlink()

    def write_progress(self, content: bytes) -> None:
        """Write nothing."""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_large_pictures_are_in_memory_one_at_a_time(tmp_path: Path) -> None:
    """Also where `max_bytes` is raised: one that is decoded is not there beside the next."""
    large, small = tmp_path / "large.parquet", images(tmp_path / "small.parquet")
    content = jpeg() + random.Random(0).randbytes(46 << 20)
    options = {"use_dictionary": False, "compression": "zstd"}
    with pq.ParquetWriter(large, pa.schema([("image", pa.binary())]), **options) as file:
        for _ in range(3):
            file.write_table(pa.table({"image": [content]}))
    command = [sys.executable, "-P", "-c", FETCH, small, large, "3", tmp_path]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < READER_BYTES


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


@pytest.mark.parametrize("form", ["parquet", "webdataset", "img2dataset"])
@pytest.mark.parametrize("same_size_and_time", [False, True])
def test_a_caption_never_meets_a_picture_of_a_file_that_has_changed(
    tmp_path: Path, form: str, same_size_and_time: bool
) -> None:
    """Ingest may have read a file long before fetch reads its pictures, as with `--from fetch`."""
    (tmp_path / "list").mkdir()
    first, second = [jpeg(i) for i in range(2)]
    spec, container, write_all = written(tmp_path / "list", form)
    write_all([first, second])
    run(tmp_path / "store", spec)
    before = container.stat()
    write_all([second, first] if same_size_and_time else [second, first, jpeg(2)])
    if same_size_and_time:
        os.utime(container, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert container.stat().st_size == before.st_size
    recipe = parse_recipe({"name": "test", "sources": [spec]})
    store = Store(tmp_path / "store")
    _, fetch = plan(recipe, until="fetch")
    with pytest.raises(StoreError, match=f"{container} has changed since ingest read it"):
        run_step(fetch, store, InProcess())
    run(tmp_path / "store", spec, until="fetch")
    rows = table(tmp_path / "store", "images").read().to_pylist()
    captions = {row["sha256"]: row["caption"] for row in rows}
    assert captions[hashlib.sha256(first).hexdigest()] == "1"
    assert captions[hashlib.sha256(second).hexdigest()] == "0"


def written(
    folder: Path, form: str
) -> tuple[dict[str, Any], Path, Callable[[Sequence[bytes]], object]]:
    """A source, the file with its pictures, and what writes pictures with their numbers as captions."""

    def write_table(pictures: Sequence[bytes]) -> None:
        rows = [{"key": f"{n}", "caption": f"{n}", "image": p} for n, p in enumerate(pictures)]
        pq.write_table(pa.Table.from_pylist(rows), folder / "0.parquet", use_dictionary=False)

    def write_tars(pictures: Sequence[bytes]) -> None:
        members = [(f"{n}.jpg", p) for n, p in enumerate(pictures)]
        if form == "img2dataset":
            rows = [
                {"key": f"{n}", "status": "success", "error_message": None, "caption": f"{n}"}
                for n in range(2)
            ]
            pq.write_table(pa.Table.from_pylist(rows), folder / "0.parquet")
        else:
            members += [(f"{n}.txt", b"%d" % n) for n in range(len(pictures))]
        write_tar(folder / "0.tar", members)

    spec: dict[str, Any] = {"name": "web", "role": "pool", "format": form, "path": str(folder)}
    if form == "parquet":
        spec["columns"] = {"key": "key", "caption": "caption", "image": "image"}
        return spec, folder / "0.parquet", write_table
    return spec, folder / "0.tar", write_tars
