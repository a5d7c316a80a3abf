"""What a task is told of earlier fragments does not grow with their number, and is read if needed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from curation.engine.context import Context
from curation.engine.parallel import InProcess
from curation.stages.fetch import earlier_fragments
from curation.stages.fetch.earlier_fragments import list_by_stem
from curation.stages.fetch.reuse import EarlierVersion
from curation.store.manifest import FileEntry, FragmentRecord
from curation.store.store import Store
from tests.fetch.conftest import Web, answer
from tests.fetch.helpers import encoded, images, picture
from tests.fetch.test_incremental import asked
from tests.ingest.helpers import jpeg, source, table, write

COLUMNS = {"url": "url", "path": "path", "caption": "caption"}


def records(count: int) -> list[FragmentRecord]:
    """Records of one stem, with measurements as `fetch` writes them."""
    counts = {"pool": {"ok": 9_000, "timeout": 1_000}}
    return [
        FragmentRecord(
            "tables/images",
            f"web-{n:05d}",
            f"{n:032x}",
            (FileEntry(f"tables/images/data/web-{n:05d}.parquet", 10**6, f"{n:064x}", 10_000),),
            counts,
            {"bytes": 10**6, "rows_kept": 0, "rules": "0" * 32},
            {"pillow": "11.0"},
        )
        for n in range(count)
    ]


def sent_bytes(folder: Path, count: int) -> int:
    context = Context(Store(folder), InProcess(), "fetch", ["fetch", 1], step="s")
    version = EarlierVersion(list_by_stem(records(count), context))
    return len(pickle.dumps(version.of("web-00003")))


def test_what_a_task_is_sent_does_not_grow_with_fragments(tmp_path: Path) -> None:
    few, many = sent_bytes(tmp_path / "few", 15), sent_bytes(tmp_path / "many", 3_000)
    assert many < few


def test_the_nearest_fragments_come_first_and_none_is_lost(tmp_path: Path) -> None:
    context = Context(Store(tmp_path), InProcess(), "fetch", ["fetch", 1], step="s")
    for count in (5, 100):
        listed = list_by_stem(records(count), context)["web"]
        at_all = [fragment.name for fragment in listed.nearest_first("web-00003")]
        assert at_all[:3] == ["web-00003", "web-00002", "web-00004"]
        assert sorted(at_all) == [record.name for record in records(count)]


def test_a_list_with_other_files_of_the_same_rows_is_written_anew(tmp_path: Path) -> None:
    """The same rows may have been computed again, into other files, because theirs were lost."""
    context = Context(Store(tmp_path), InProcess(), "fetch", ["fetch", 1], step="s")
    first = list_by_stem(records(20), context)["web"]
    moved = [
        FragmentRecord(r.table_dir, r.name, r.memo, (FileEntry(f"x/{r.name}", 1, r.name, 1),))
        for r in records(20)
    ]
    second = list_by_stem(moved, context)["web"]
    paths = [f.record.files[0].path for f in second.nearest_first("web-00000")]
    assert paths == [f"x/{r.name}" for r in records(20)]
    assert first.nearest_first("web-00000")[0].record.files[0].path != paths[0]


def test_rows_that_moved_within_a_long_list_are_not_requested_again(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(earlier_fragments, "NAMED_FRAGMENTS", 3)
    rows: list[dict[str, Any]] = []
    for n in range(26):
        web.pages[f"/{n}.jpg"] = answer(encoded(picture(40 + n)))
        rows.append({"url": web.url(f"/{n}.jpg"), "path": None, "caption": f"c{n}"})
    path, store = tmp_path / "l.parquet", tmp_path / "store"
    of_list = source(path, columns=COLUMNS)
    write(path, rows[4:])
    before = {r["caption"]: r for r in images(store, of_list, ingest={"rows_per_fragment": 2})}
    assert asked(web) == {f"/{n}.jpg" for n in range(4, 26)}
    write(path, rows[:4] + rows[10:])
    after = {r["caption"]: r for r in images(store, of_list, ingest={"rows_per_fragment": 2})}
    assert asked(web) == {f"/{n}.jpg" for n in range(4)}
    assert len(table(store, "images").fragments) == 10
    for n in range(10, 26):
        assert after[f"c{n}"] == before[f"c{n}"]


def test_a_folder_of_pictures_reads_no_earlier_fragment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(earlier_fragments, "NAMED_FRAGMENTS", 2)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n in range(9):
        (folder / f"{n}.jpg").write_bytes(jpeg(n))
    of_folder = source(folder, format="folder")
    images(tmp_path / "store", of_folder, ingest={"rows_per_fragment": 2})

    def reading(listing: Any) -> Any:
        raise AssertionError("nothing of a folder is taken from earlier fragments")

    monkeypatch.setattr(earlier_fragments, "_read_records", reading)
    again = images(tmp_path / "store", of_folder, ingest={"rows_per_fragment": 2}, max_bytes=2**21)
    assert [row["status"] for row in again] == ["ok"] * 9
