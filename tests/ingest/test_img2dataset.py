"""Outputs of img2dataset, written by its own downloader from a server on this machine."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import RecipeError
from tests.ingest.entrances import Picture, as_img2dataset
from tests.ingest.helpers import jpeg, noted, pairs, run, source, table, write, write_tar

OUTPUTS = ("webdataset", "files", "parquet")
PICTURES = [Picture(f"p{n}", jpeg(n), f"caption {n}") for n in range(6)]


def rows_by_caption(folder: Path, **spec: Any) -> dict[str, dict[str, Any]]:
    rows = pairs(folder / "store", source("", columns={}) | spec)
    return {row["caption"]: row for row in rows}


@pytest.mark.parametrize("output", OUTPUTS)
def test_rows_that_failed_are_rows_with_their_status_and_error(tmp_path: Path, output: str) -> None:
    spec = as_img2dataset(tmp_path / "out", PICTURES, output, gone="no longer there")
    by_caption = rows_by_caption(tmp_path, **spec)
    assert len(by_caption) == 7
    failed = by_caption.pop("no longer there")
    assert (failed["status"], failed["reason"]) == ("dropped", "failed_to_download")
    stated = json.loads(failed["metadata"])
    assert stated["error_message"].startswith("HTTP Error 404")
    assert failed["url"].endswith("/gone.jpg")
    assert {row["reason"] for row in by_caption.values()} == {None}
    assert all(row["url"].startswith("http://127.0.0.1") for row in by_caption.values())
    assert len({row["source_key"] for row in by_caption.values()}) == 6


@pytest.mark.parametrize("output", OUTPUTS)
def test_an_output_without_failures_says_nothing_of_pictures_that_are_listed(
    tmp_path: Path, output: str
) -> None:
    spec = as_img2dataset(tmp_path / "out", PICTURES, output)
    rows_by_caption(tmp_path, **spec)
    # Its own statistics, one file for each shard.
    assert noted(tmp_path / "store") == {"other_file": 2}


def test_a_second_picture_with_the_key_of_another_is_counted(tmp_path: Path) -> None:
    spec = as_img2dataset(tmp_path / "out", PICTURES, "files")
    first = next((tmp_path / "out").glob("*/*.jpg"))
    first.with_suffix(".png").write_bytes(jpeg(9))
    assert len(rows_by_caption(tmp_path, **spec)) == len(PICTURES)
    assert noted(tmp_path / "store")["unlisted_picture"] == 1


@pytest.mark.parametrize("output", ["webdataset", "files"])
@pytest.mark.parametrize("as_number", [False, True])
def test_a_row_with_the_key_of_another_does_not_get_its_picture(
    tmp_path: Path, output: str, as_number: bool
) -> None:
    """As where parts of several outputs were joined."""
    spec = as_img2dataset(tmp_path / "out", PICTURES[:2], output)
    shard = min((tmp_path / "out").glob("*.parquet"))
    (row,) = pq.read_table(shard).to_pylist()
    other = {**row, "url": "http://a.example/other", "caption": "of another picture"}
    rows = [row, other]
    if as_number:
        rows = [{**each, "key": int(each["key"])} for each in rows]
    write(shard, rows)
    by_caption = rows_by_caption(tmp_path, **spec)
    assert by_caption[row["caption"]]["reason"] is None
    second = by_caption["of another picture"]
    assert (second["reason"], second["location"]) == ("no_image", None)
    assert "an earlier row has its key" in json.loads(second["metadata"])["unreadable"]


def test_a_long_error_is_shortened(tmp_path: Path) -> None:
    spec = as_img2dataset(tmp_path / "out", PICTURES, gone="no longer there")
    shard = next((tmp_path / "out").glob("*.parquet"))
    rows = pq.read_table(shard).to_pylist()
    for row in rows:
        row |= {"status": "failed_to_resize", "error_message": "x" * 100_000}
    pq.write_table(pa.Table.from_pylist(rows), shard)
    by_caption = rows_by_caption(tmp_path, **spec)
    assert {by_caption[row["caption"]]["reason"] for row in rows} == {"failed_to_resize"}
    assert all(len(by_caption[row["caption"]]["metadata"]) < 2000 for row in rows)


def test_any_other_status_is_one_reason(tmp_path: Path) -> None:
    spec = as_img2dataset(tmp_path / "out", PICTURES)
    shard = next((tmp_path / "out").glob("*.parquet"))
    rows = pq.read_table(shard).to_pylist()
    for n, row in enumerate(rows):
        row["status"] = (None, "", "<script>")[n % 3]
    pq.write_table(pa.Table.from_pylist(rows), shard)
    by_caption = rows_by_caption(tmp_path, **spec)
    assert {by_caption[row["caption"]]["reason"] for row in rows} == {"failed_status"}
    # Their pictures are in the tar all the same.
    assert noted(tmp_path / "store")["unlisted_picture"] == len(rows)


def test_a_picture_that_is_missing_is_a_row_that_says_so(tmp_path: Path) -> None:
    spec = as_img2dataset(tmp_path / "out", PICTURES, "files")
    removed = sorted((tmp_path / "out").rglob("*.jpg"))[0]
    key = removed.stem
    removed.unlink()
    by_caption = rows_by_caption(tmp_path, **spec)
    (row,) = [row for row in by_caption.values() if row["source_key"] == key]
    assert row["reason"] == "no_image"
    assert "not beside the Parquet" in json.loads(row["metadata"])["unreadable"]


def test_a_damaged_tar_costs_its_pictures(tmp_path: Path) -> None:
    spec = as_img2dataset(tmp_path / "out", PICTURES)
    tar = sorted((tmp_path / "out").glob("*.tar"))[0]
    tar.write_bytes(tar.read_bytes()[:2500])
    rows = pairs(tmp_path / "store", source("", columns={}) | spec)
    reasons = [row["reason"] for row in rows]
    assert reasons.count("bad_row") == 1
    assert reasons.count("no_image") >= 2
    assert len(rows) == 7
    assert noted(tmp_path / "store")["unreadable_file"] == 1


@pytest.mark.parametrize("output", ["webdataset", "files"])
def test_a_shard_without_its_parquet_is_read_by_its_pictures(tmp_path: Path, output: str) -> None:
    spec = as_img2dataset(tmp_path / "out", PICTURES, output)
    whole = rows_by_caption(tmp_path / "whole", **spec)
    for shard in (tmp_path / "out").glob("*.parquet"):
        shard.unlink()
    by_caption = rows_by_caption(tmp_path, **spec)
    assert noted(tmp_path / "store")["no_statuses"] >= 1
    for name, row in whole.items():
        same = ("caption", "url", "source_key", "location", "reason")
        assert [by_caption[name][field] for field in same] == [row[field] for field in same]


def test_a_changed_tar_is_read_again(tmp_path: Path) -> None:
    spec = source("", columns={}) | as_img2dataset(tmp_path / "out", PICTURES)
    run(tmp_path / "store", spec)
    assert run(tmp_path / "store", spec)["ingest"].up_to_date
    tar = sorted((tmp_path / "out").glob("*.tar"))[0]
    with tarfile.open(tar, "a") as archive:
        archive.add(__file__, "more.py")
    assert not run(tmp_path / "store", spec)["ingest"].up_to_date
    assert noted(tmp_path / "store")["other_member"] == 1


def test_a_glob_names_shards(tmp_path: Path) -> None:
    spec = as_img2dataset(tmp_path / "out", PICTURES)
    by_caption = rows_by_caption(tmp_path, **spec | {"path": f"{spec['path']}/00001.*"})
    assert sorted(by_caption) == ["caption 1", "caption 3", "caption 5"]


def test_a_tar_that_is_a_link_out_of_the_folder_is_not_read(tmp_path: Path) -> None:
    spec = as_img2dataset(tmp_path / "out", PICTURES)
    tar = sorted((tmp_path / "out").glob("*.tar"))[0]
    tar.rename(tmp_path / "elsewhere.tar")
    tar.symlink_to(tmp_path / "elsewhere.tar")
    by_caption = rows_by_caption(tmp_path, **spec)
    assert (
        sorted(str(row["reason"]) for row in by_caption.values()) == ["None"] * 3 + ["no_image"] * 3
    )
    assert noted(tmp_path / "store")["link_out_of_folder"] == 1


def test_a_parquet_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    pq.write_table(pa.table({"url": ["http://a.example/1"]}), tmp_path / "out" / "0.parquet")
    with pytest.raises(RecipeError, match="not written by img2dataset"):
        rows_by_caption(tmp_path, format="img2dataset", path=str(tmp_path / "out"))


def test_one_file_is_refused(tmp_path: Path) -> None:
    spec = as_img2dataset(tmp_path / "out", PICTURES)
    with pytest.raises(RecipeError, match="folder of an output"):
        rows_by_caption(tmp_path, **spec | {"path": f"{spec['path']}/00000.tar"})


def test_pictures_are_fetched_from_tars(tmp_path: Path) -> None:
    spec = source("", columns={}) | as_img2dataset(tmp_path / "out", PICTURES)
    run(tmp_path / "store", spec, until="fetch")
    assert table(tmp_path / "store", "images").manifest.counts.get("pool") is not None
    statuses = [row["status"] for row in table(tmp_path / "store", "images").read().to_pylist()]
    assert statuses == ["ok"] * 6


@pytest.mark.parametrize("folder", ["./", "00000/", "./00000/"])
def test_a_tar_that_was_packed_again_holds_the_same_pictures(tmp_path: Path, folder: str) -> None:
    spec = as_img2dataset(tmp_path / "out", PICTURES)
    for shard in (tmp_path / "out").glob("*.tar"):
        with tarfile.open(shard) as tar:
            members = [(info.name, tar.extractfile(info)) for info in tar if info.isfile()]
            packed = {f"{folder}{name}": stream.read() for name, stream in members if stream}
        write_tar(shard, packed)
    rows = rows_by_caption(tmp_path, **spec)
    assert [row["reason"] for row in rows.values()] == [None] * len(PICTURES)
    assert noted(tmp_path / "store") == {"other_file": 2}


def test_a_row_without_its_picture_in_the_parquet_is_not_requested(tmp_path: Path) -> None:
    picture = {"status": "success", "error_message": None, "caption": "c"}
    rows = [
        {"key": str(n), "url": f"http://a.example/{n}", "jpg": content, **picture}
        for n, content in enumerate([jpeg(1), None, jpeg(2)])
    ]
    write(tmp_path / "out" / "00000.parquet", rows)
    spec = source(tmp_path / "out", format="img2dataset", columns={})
    run(tmp_path / "store", spec, until="fetch")
    stored = table(tmp_path / "store", "images").read().to_pylist()
    assert [(r["source_key"], r["status"], r["reason"]) for r in stored] == [
        ("0", "ok", None),
        ("1", "skipped", "no_image"),
        ("2", "ok", None),
    ]


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.string()])
@pytest.mark.parametrize("output", ["webdataset", "files"])
def test_keys_that_lost_their_zeros_lead_to_their_pictures(
    tmp_path: Path, output: str, kind: pa.DataType
) -> None:
    """pandas turns keys into numbers where a table went through CSV."""
    spec = as_img2dataset(tmp_path / "out", PICTURES, output)
    whole = rows_by_caption(tmp_path / "whole", **spec)
    for shard in (tmp_path / "out").glob("*.parquet"):
        rows = pq.read_table(shard)
        keys = pa.array([int(key) for key in rows["key"].to_pylist()]).cast(kind)
        pq.write_table(rows.set_column(rows.schema.names.index("key"), "key", keys), shard)
    by_caption = rows_by_caption(tmp_path, **spec)
    for name, row in whole.items():
        assert (by_caption[name]["location"], by_caption[name]["reason"]) == (row["location"], None)
        assert by_caption[name]["source_key"] == str(int(row["source_key"]))
    assert "unlisted_picture" not in noted(tmp_path / "store")


def test_a_key_that_may_be_that_of_two_pictures_is_that_of_none(tmp_path: Path) -> None:
    rows = [{"key": key, "status": "success", "url": "http://a.example/"} for key in (1, 2)]
    write(tmp_path / "out" / "00000.parquet", rows)
    write_tar(tmp_path / "out" / "00000.tar", {f"{n}.jpg": jpeg(1) for n in ("01", "001", "02")})
    one, two = pairs(tmp_path / "store", source(tmp_path / "out", format="img2dataset", columns={}))
    assert (one["reason"], two["reason"]) == ("no_image", None)
    assert noted(tmp_path / "store")["unlisted_picture"] == 2
