"""The stage fetch: rows in order, images in files, and runs that were stopped."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curation.engine.contract import contract
from curation.errors import StoreError
from curation.media.pictures import decoder
from curation.stages.fetch import sample_writer
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.request import FetchRequest, FetchResult
from curation.stages.fetch.sample_writer import SampleWriter
from curation.stages.fetch.work_shards import WorkShards
from curation.store.storage.arrow import ArrowStorage
from curation.store.store import Store
from curation.store.work_folder import WorkFolder
from tests.fetch.conftest import Web, answer
from tests.fetch.helpers import OPEN, encoded, fetched, images, picture, served
from tests.ingest.helpers import run, source, table, write, write_tar

JPEG = encoded(picture())


def colours(count: int) -> list[bytes]:
    return [encoded(picture(40 + i % 20, 40)) for i in range(count)]


def test_rows_are_aligned_with_pairs(web: Web, tmp_path: Path) -> None:
    urls, files = [], colours(60)
    for i in range(120):
        number, path = i % 60, f"/{i % 60}"
        web.pages[path] = answer(status="404 Gone") if number % 7 == 0 else answer(files[number])
        urls.append(web.url(path) if i % 11 else "ftp://a.example/x")
    listed = write(
        tmp_path / "l.parquet", [{"url": u, "caption": str(i)} for i, u in enumerate(urls)]
    )
    run(
        tmp_path / "store",
        source(listed),
        until="fetch",
        ingest={"rows_per_fragment": 50},
        fetch=OPEN,
    )
    pairs, stored = table(tmp_path / "store", "pairs"), table(tmp_path / "store", "images")
    assert list(pairs.fragments) == list(stored.fragments)
    same = ["pair_id", "role", "source", "source_key", "url", "caption", "metadata"]
    for name, fragment in pairs.fragments.items():
        assert fragment.read(same).equals(stored.fragments[name].read(same))
    for pair, image in zip(pairs.read().to_pylist(), stored.read().to_pylist(), strict=True):
        if pair["status"] == "dropped":
            assert (image["status"], image["reason"]) == ("skipped", pair["reason"])
        else:
            number = int(pair["url"].rpartition("/")[2])
            assert image["reason"] == (None if number % 7 else "http_404")
            assert image["image"] == (files[number] if number % 7 else None)
    outcomes = Counter(pair["reason"] for pair in pairs.read().to_pylist())
    assert outcomes["bad_scheme"] == 11
    assert stored.manifest.counts["pool"]["bad_scheme"] == 11
    assert sum(stored.manifest.counts["pool"].values()) == 120
    assert not list((tmp_path / "store" / "work").rglob("fetch/*")), "work shards are left"


def test_the_table_has_the_columns_of_its_contract(web: Web, tmp_path: Path) -> None:
    fetched(tmp_path, [served(web, JPEG)])
    schema = table(tmp_path / "store", "images").read().schema
    assert schema.names == list(contract("images").names)


@pytest.mark.parametrize("kind", ["folder", "tar", "tar.gz", "parquet", "struct", "path"])
def test_images_in_files_are_read_in_order(tmp_path: Path, kind: str) -> None:
    contents = colours(30)
    names = [f"d/{i:02d} #%.jpg" for i in range(30)]
    home = tmp_path / "set"
    (home / "d").mkdir(parents=True)
    if kind in ("folder", "path"):
        for name, content in zip(names, contents, strict=True):
            (home / name).write_bytes(content)
    if kind == "folder":
        spec = source(home, format="folder")
    elif kind == "path":
        path = write(home / "l.parquet", [{"f": n} for n in names])
        spec = source(path, columns={"path": "f"})
    elif kind.startswith("tar"):
        members = {n.replace(" ", "."): c for n, c in zip(names, contents, strict=True)}
        spec = source(write_tar(home / f"s.{kind}", members), format="webdataset")
    else:
        values = [{"bytes": c} if kind == "struct" else c for c in contents]
        rows = [{"img": v, "k": str(i)} for i, v in enumerate(values)]
        write(home / "p.parquet", rows)
        pq.write_table(pq.read_table(home / "p.parquet"), home / "p.parquet", row_group_size=4)
        spec = source(home / "p.parquet", columns={"image": "img", "key": "k"})
    run(tmp_path / "store", spec, until="fetch", ingest={"rows_per_fragment": 7}, fetch=OPEN)
    stored = table(tmp_path / "store", "images")
    assert len(stored.fragments) == 5
    assert [r["image"] for r in stored.read().to_pylist()] == contents


def test_image_files_that_fail_have_reasons(tmp_path: Path) -> None:
    home = tmp_path / "set"
    home.mkdir()
    for name in ("ok", "late", "big", "link"):
        (home / f"{name}.jpg").write_bytes(JPEG)
    path = write(home / "l.parquet", [{"f": f"{n}.jpg"} for n in ("ok", "gone", "big", "link")])
    spec = source(path, columns={"path": "f"})
    run(tmp_path / "store", spec)
    (home / "big.jpg").write_bytes(JPEG + b"\0" * 200_000)
    (home / "link.jpg").unlink()
    (tmp_path / "elsewhere.jpg").write_bytes(JPEG)
    (home / "link.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    rows = images(tmp_path / "store", spec, max_bytes=100_000)
    assert [r["reason"] for r in rows] == [None, "file_missing", "too_large", "outside_folder"]


def test_tar_members_that_fail_have_reasons(tmp_path: Path) -> None:
    members = {"1.jpg": JPEG, "2.jpg": JPEG + b"\0" * 200_000, "3.jpg": b"", "4.jpg": JPEG}
    path = write_tar(tmp_path / "s.tar", members)
    spec = source(path, format="webdataset")
    stored_rows = images(tmp_path / "store", spec, max_bytes=100_000)
    assert [r["reason"] for r in stored_rows] == [None, "too_large", "empty", None]
    rows = [{"img": c, "k": n} for n, c in members.items()]
    spec = source(write(tmp_path / "p.parquet", rows), columns={"image": "img", "key": "k"})
    stored_rows = images(tmp_path / "store", spec, max_bytes=100_000)
    assert [r["reason"] for r in stored_rows] == [None, "too_large", "empty", None]


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_only_rows_after_the_damage_of_a_tar_fail(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (200, 200, 3), np.uint8))
    contents = {f"{i}.jpg": encoded(noise.rotate(i)) for i in range(4)}
    path = write_tar(tmp_path / f"s.{suffix}", contents)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 5 // 8])
    rows = images(tmp_path / "store", source(path, format="webdataset"))
    assert [r["image"] for r in rows[:2]] == list(contents.values())[:2]
    assert [r["reason"] for r in rows[2:]] == ["unreadable", "bad_row"]


def test_a_missing_container_stops_the_run(tmp_path: Path) -> None:
    path = write(tmp_path / "p.parquet", [{"img": JPEG, "k": "1"}])
    spec = source(path, columns={"image": "img", "key": "k"})
    run(tmp_path / "store", spec)
    from curation.engine.parallel import InProcess
    from curation.flow import plan
    from curation.recipe import parse_recipe
    from curation.runner.step import run_step
    from curation.store.store import Store

    path.unlink()
    step = plan(parse_recipe({"name": "t", "sources": [spec]}), until="fetch")[1]
    with pytest.raises(StoreError, match=r"p\.parquet cannot be read any more.*Put the file back"):
        run_step(step, Store(tmp_path / "store"), InProcess())


class Killed(BaseException):
    """Ends a run like a signal."""


def kill_at(monkeypatch: pytest.MonkeyPatch, row: int) -> None:
    """Make the run end after this many rows have been written."""
    written = []
    write = SampleWriter._write

    def counted(self: SampleWriter, *row_of_shard: Any) -> None:
        written.append(row_of_shard)
        if len(written) > row:
            raise Killed
        write(self, *row_of_shard)

    monkeypatch.setattr(SampleWriter, "_write", counted)


def test_a_killed_run_continues_from_its_finished_shards(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [served(web, content) for content in colours(60)]
    monkeypatch.setattr(sample_writer, "SHARD_ROWS", 10)
    # Each row is written before the next picture is decoded.
    monkeypatch.setattr(decoder, "MAX_BATCH", 1)
    monkeypatch.setattr(decoder, "MAX_SENT", 1)
    with monkeypatch.context() as patch:
        kill_at(patch, 35)
        # A killed process does not close the shard that it writes.
        patch.setattr(SampleWriter, "__exit__", lambda *_: None)
        with pytest.raises(Killed):
            fetched(tmp_path, urls, concurrency=4)
    shards = sorted((tmp_path / "store" / "work" / "images").rglob("*.parquet"))
    assert len(shards) == 4
    torn = shards[-1].read_bytes()
    shards[-1].write_bytes(torn[: len(torn) // 2])
    finished = set()
    for shard in shards[:3]:
        finished |= set(pq.read_table(shard)["key"].to_pylist())
    assert len(finished) == 30
    web.requests.clear()
    rows = fetched(tmp_path, urls, concurrency=4)
    assert [r["image"] for r in rows] == colours(60)
    asked = {int(path[1:]) for path in web.requests}
    assert asked == set(range(60)) - {int(key) for key in finished}
    assert not [s for s in shards if s.exists()]


def test_an_error_of_the_store_stops_the_run(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SampleWriter, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        fetched(tmp_path, [served(web, JPEG)])


def test_rows_are_read_back_in_order_from_shards_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa

    rng = np.random.default_rng(0)
    order = rng.permutation(1000)[:900]
    folder = tmp_path / "work" / "memo" / "attempt"
    for shard, rows in enumerate(np.array_split(order, 7)):
        columns = {
            "key": [f"{r:09d}" for r in rows],
            "stored_bytes": [int(r) for r in rows],
            "jpg": [bytes([r % 256]) * int(r) for r in rows],
        }
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), folder / f"{shard:06d}.parquet", row_group_size=13)
    work = WorkShards(WorkFolder(Store(tmp_path), "work/memo", "attempt"), 1000)
    work.scan()
    assert set(np.flatnonzero(work.done)) == set(order.tolist())
    monkeypatch.setattr("curation.stages.fetch.work_shards._WINDOW_BYTES", 20_000)
    seen = []
    for start, end in work.windows(0, 1000):
        samples, at = work.read(start, end)
        for row, place in zip(range(start, end), at, strict=True):
            assert (place >= 0) == work.done[row]
            if place >= 0:
                assert samples is not None
                assert samples["jpg"][place].as_py() == bytes([row % 256]) * row
        sizes = [row for row in range(start, end) if work.done[row]]
        assert sum(sizes) <= 20_000
        seen += list(range(start, end))
    assert seen == list(range(1000))


def test_it_runs_inside_a_running_event_loop(web: Web, tmp_path: Path) -> None:
    import asyncio

    async def notebook() -> list[dict[str, Any]]:
        return fetched(tmp_path, [served(web, JPEG)])

    assert asyncio.run(notebook())[0]["status"] == "ok"


def test_shards_of_a_remote_store_are_moved_there(tmp_path: Path) -> None:
    """Shards are written to the local disk first, and then moved to a remote store."""
    store = Store("elsewhere", ArrowStorage((tmp_path / "bucket").as_uri()))
    work = WorkShards(WorkFolder(store, "work/memo", "attempt"), 3)
    with (
        work.folder() as folder,
        SampleWriter(folder, FetchParams(), work) as writer,
    ):
        for row in range(3):
            writer.write_result(FetchResult(FetchRequest(row, None, None, None), content=JPEG))
    assert not Path(folder).exists()
    assert [p.name for p in tmp_path.rglob("*.parquet")] == ["000000.parquet"]
    work.scan()
    assert work.done.all()


def test_a_full_disk_of_the_store_is_not_taken_for_that_of_temporary_files(tmp_path: Path) -> None:
    """Spark's error has the text of the system alone, which says no file."""
    work = WorkShards(WorkFolder(Store(tmp_path), "work/memo", "attempt"), 1)
    row = FetchResult(FetchRequest(0, None, None, None), content=JPEG)
    with (
        pytest.raises(StoreError, match=r"attempt/000000.parquet': No space left.*run again"),
        work.folder() as folder,
        SampleWriter(folder, FetchParams(), work) as writer,
    ):
        Path(folder, "000000.parquet").symlink_to("/dev/full")
        writer.write_result(row)


LOAD_WRITER = """
import sys
from curation.stages.fetch.shard_writer import parquet_writer
writer = parquet_writer()
assert parquet_writer() is writer and writer.__name__ == "ParquetSampleWriter"
loaded = {"torch", "wandb", "img2dataset", "albumentations"} & set(sys.modules)
assert not loaded, loaded
import torch
assert torch.ones(1).sum() == 1
"""


def test_the_writer_of_shards_loads_neither_torch_nor_the_downloader() -> None:
    subprocess.run([sys.executable, "-c", LOAD_WRITER], check=True, timeout=120)
