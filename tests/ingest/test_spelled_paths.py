"""Paths of images as Windows and macOS write them, and as addresses."""

from __future__ import annotations

import io
import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import RecipeError
from tests.ingest.helpers import jpeg, pairs, run, table, tar_of
from tests.ingest.test_named_files import fetched, listed, sha256

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
FORMS = ("parquet", "jsonl", "coco")


def files(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Write a picture under each name, and return their checksums."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg(number))
    return {name: sha256(jpeg(number)) for number, name in enumerate(names)}


@pytest.mark.parametrize("form", FORMS)
def test_a_path_of_another_system_leads_to_its_file(tmp_path: Path, form: str) -> None:
    web = tmp_path / "web"
    sums = files(web, [f"{NFD}/a.jpg", "b/c d.jpg", f"{NFC} x/{NFD}.jpg", r"e\f.jpg", "e/f.jpg"])
    paths = {
        f"{NFC}\\a.jpg": f"{NFD}/a.jpg",
        f"{web}/{NFC}/a.jpg": f"{NFD}/a.jpg",
        r"b\c d.jpg": "b/c d.jpg",
        f"{(web / 'b' / 'c d.jpg').as_uri()}": "b/c d.jpg",
        f"{NFD} x/{NFC}.jpg": f"{NFC} x/{NFD}.jpg",
        # A name may hold a backslash.
        r"e\f.jpg": r"e\f.jpg",
    }
    spec = listed(web, form, list(paths))
    assert fetched(tmp_path / "store", spec) == [(sums[name], None) for name in paths.values()]
    assert run(tmp_path / "store", spec)["ingest"].up_to_date


def test_no_spelling_leads_out_of_the_folder(tmp_path: Path) -> None:
    files(tmp_path, ["secret.jpg", f"web/{NFC}.jpg"])
    (tmp_path / "web" / "link").symlink_to(tmp_path)
    paths = [r"..\secret.jpg", r"link\secret.jpg", f"{tmp_path.as_uri()}/secret.jpg", f"{NFD}.jpg"]
    rows = fetched(tmp_path / "store", listed(tmp_path / "web", "jsonl", paths))
    assert [reason for _, reason in rows] == [*["outside_folder"] * 3, None]


def test_a_file_of_the_very_name_takes_precedence_once_it_comes(tmp_path: Path) -> None:
    sums = files(tmp_path / "web", ["a/b.jpg"])
    spec = listed(tmp_path / "web", "parquet", [r"a\b.jpg"])
    assert fetched(tmp_path / "store", spec) == [(sums["a/b.jpg"], None)]
    (tmp_path / "web" / r"a\b.jpg").write_bytes(jpeg(7))
    assert fetched(tmp_path / "store", spec) == [(sha256(jpeg(7)), None)]
    (tmp_path / "web" / r"a\b.jpg").unlink()
    assert fetched(tmp_path / "store", spec) == [(sums["a/b.jpg"], None)]


@pytest.mark.parametrize("form", [form for form in FORMS if form != "coco"])
def test_a_path_that_is_a_url_says_so(tmp_path: Path, form: str) -> None:
    """Where a column of the list can be mapped to `url`; other formats take it for the URL."""
    files(tmp_path / "web", ["a.jpg"])
    spec = listed(tmp_path / "web", form, ["HTTPS://a.example/a.jpg", "a.jpg"])
    bad, good = pairs(tmp_path / "store", spec)
    assert (bad["reason"], good["reason"]) == ("bad_row", None)
    assert "map its column to `url`" in json.loads(bad["metadata"])["unreadable"]


def test_addresses_in_the_folder_of_the_source_are_paths_in_it(tmp_path: Path) -> None:
    root = f"memory://spelled{tmp_path.name}"
    memory = fsspec.filesystem("memory")
    lines = [{"p": path} for path in (f"{root}/d/a.jpg", "memory://elsewhere/a.jpg", "d/a.jpg")]
    memory.pipe(f"{root}/l.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    memory.pipe(f"{root}/d/a.jpg", jpeg(1))
    spec = {"name": "web", "role": "pool", "format": "jsonl", "path": f"{root}/l.jsonl"}
    run(tmp_path / "store", spec | {"columns": {"path": "p"}}, until="fetch")
    rows = table(tmp_path / "store", "images").read(["sha256", "reason"]).to_pylist()
    there = {"sha256": sha256(jpeg(1)), "reason": None}
    assert rows == [there, {"sha256": None, "reason": "outside_folder"}, there]


@pytest.mark.parametrize("form", ["folder", "webdataset", "parquet"])
@pytest.mark.parametrize("name", ["a b", "ü", "b%20", "c#1", "d?e", "[f]"])
def test_files_of_any_name_are_read_on_other_file_systems(
    tmp_path: Path, form: str, name: str
) -> None:
    root = f"memory://named{tmp_path.name}"
    ending, content, columns = {
        "folder": ("jpg", jpeg(1), {}),
        "webdataset": ("tar", tar_of({"1.jpg": jpeg(1)}), {}),
        "parquet": ("parquet", parquet_of(jpeg(1)), {"image": "image"}),
    }[form]
    fsspec.filesystem("memory").pipe(f"{root}/d {name}/{name}.{ending}", content)
    spec = {"name": "web", "role": "pool", "format": form, "path": root, "columns": columns}
    assert fetched(tmp_path / "store", spec) == [(sha256(jpeg(1)), None)]


def parquet_of(image: bytes) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"image": [image]}), out)
    return out.getvalue()


@pytest.mark.parametrize("form", FORMS)
def test_a_list_none_of_whose_files_is_there_stops_the_run(tmp_path: Path, form: str) -> None:
    spec = listed(tmp_path / "web", form, ["a.jpg", "b/c.jpg"])
    with pytest.raises(RecipeError, match=r"none of the 2 image files .*/web/a\.jpg.*`root`"):
        run(tmp_path / "store", spec, until="fetch")
    files(tmp_path / "web", ["b/c.jpg"])
    assert [reason for _, reason in fetched(tmp_path / "store", spec)] == ["file_missing", None]


def test_a_source_without_a_usable_row_stops_the_run(tmp_path: Path) -> None:
    spec = listed(tmp_path / "web", "jsonl", ["http://a.example/1", "../b.jpg"])
    with pytest.raises(RecipeError, match=r"1 bad_row, 1 outside_folder\), such as .*`url`"):
        run(tmp_path / "store", spec)
