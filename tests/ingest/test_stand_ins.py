"""Files that stand for others, or are not written as their format says: read, or one message."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from curation.errors import RecipeError, StoreError
from curation.media.encoders.params import EncoderSpec
from curation.media.encoders.private_copy import PrivateCopy
from curation.recipe import parse_recipe
from tests.ingest.helpers import jpeg, noted, pairs, run, source, table, tar_of, write

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 12345\n" % (b"0" * 64)
URLS = [f"http://a.example/{number}" for number in range(4)]
ROWS = [{"url": url, "caption": "c"} for url in URLS]
OF_LISTS = ("parquet", "csv", "tsv", "jsonl", "laion", "url_alt")
FORMATS = (*OF_LISTS, "txt", "cc12m", "wit", "huggingface", "coco", "wat", "webdataset")


def spec_of(path: Path | str, form: str) -> dict[str, Any]:
    return source(path, format=form, **({} if form in OF_LISTS else {"columns": {}}))


def zip_of(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, content)
    return out.getvalue()


ZIP = zip_of("a.jpg", jpeg())
SLIPS: list[tuple[str, str, bytes, list[str]]] = [
    ("p.zip", "folder", ZIP, ["a file in place of a folder", "Unpack"]),
    ("a.jpg", "folder", jpeg(), ["a file in place of a folder", "a folder of images"]),
    (
        "l.parquet",
        "parquet",
        b"url,caption\nhttp://a.example/1,c\n",
        ["no Parquet file", "Replace"],
    ),
    ("a.jpg", "parquet", jpeg(), ["no Parquet file", "Replace"]),
    ("p.zip", "csv", ZIP, ["zip archive", "Unpack"]),
    ("p.zip", "webdataset", ZIP, ["is not a tar", "Replace"]),
]
"""Files that are named as what they are not: the format in the recipe, and what the error says."""


@pytest.mark.parametrize(
    ("name", "form", "content", "words"), SLIPS, ids=[f"{s[0]} as {s[1]}" for s in SLIPS]
)
def test_a_file_in_place_of_another_says_what_it_is(
    tmp_path: Path, name: str, form: str, content: bytes, words: list[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((RecipeError, StoreError)) as caught:
        pairs(tmp_path / "store", source(tmp_path / name, format=form))
    assert all(word in str(caught.value) for word in (name, "web", *words)), str(caught.value)


@pytest.mark.parametrize("columns", [["url"], [], "url", 7])
def test_columns_that_are_no_mapping_say_what_they_are(columns: Any) -> None:
    spec = source("l.csv", format="csv") | {"columns": columns}
    with pytest.raises(RecipeError, match=r"sources\.0\.columns: .*mapping.*, found") as caught:
        parse_recipe({"name": "t", "sources": [spec]})
    found = "a list" if isinstance(columns, list) else repr(columns)
    assert str(caught.value).endswith(f"found {found}")


@pytest.mark.parametrize("form", FORMATS)
def test_a_pointer_of_git_lfs_says_what_it_is(tmp_path: Path, form: str) -> None:
    path = tmp_path / "l.list"
    path.write_bytes(POINTER)
    with pytest.raises(StoreError, match=r"l\.list is a pointer of Git LFS.*git lfs pull"):
        pairs(tmp_path / "store", spec_of(path, form))


def test_a_pointer_among_lists_costs_itself(tmp_path: Path) -> None:
    (tmp_path / "l").mkdir()
    (tmp_path / "l" / "1.txt").write_bytes(POINTER)
    (tmp_path / "l" / "2.txt").write_text(URLS[0])
    rows = pairs(tmp_path / "store", spec_of(tmp_path / "l", "txt"))
    assert {row["reason"] for row in rows} == {None, "bad_row"} and len(rows) == 2
    assert noted(tmp_path / "store") == {"unreadable_file": 1}


def test_pictures_and_weights_that_are_pointers_say_so(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(POINTER)
    (folder / "b.jpg").write_bytes(jpeg())
    run(tmp_path / "store", source(folder, format="folder"), until="fetch")
    rows = table(tmp_path / "store", "images").read().to_pylist()
    reasons = {row["source_key"]: row["reason"] for row in rows}
    assert reasons == {"a.jpg": "format_git_lfs_pointer", "b.jpg": None}
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(POINTER)
    with pytest.raises(RecipeError, match=r"model\.safetensors' is a pointer of Git LFS"):
        PrivateCopy(str(EncoderSpec(model="timm/test_vit", weights=str(weights)).weights))


@pytest.mark.parametrize(
    ("log", "kind"),
    [
        ("_delta_log/00000000000000000000.json", "a Delta table"),
        ("birds/_delta_log/_last_checkpoint", "a Delta table"),
        (".hoodie/hoodie.properties", "a Hudi table"),
        ("metadata/v1.metadata.json", "an Iceberg table"),
        ("metadata/00001-5f0e.metadata.json", "an Iceberg table"),
    ],
)
def test_a_table_with_a_log_is_refused(tmp_path: Path, log: str, kind: str) -> None:
    folder = tmp_path / "l"
    write(folder / "data" / "1.parquet", ROWS)
    (folder / log).parent.mkdir(parents=True, exist_ok=True)
    (folder / log).write_text("{}")
    with pytest.raises(RecipeError, match=f"it is {kind}: its folder holds files of earlier"):
        pairs(tmp_path / "store", source(folder))
    assert len(pairs(tmp_path / "other", source(folder / "data" / "*.parquet"))) == len(ROWS)
    (folder / log).rename(folder / "notes.json")
    assert len(pairs(tmp_path / "plain", source(folder))) == len(ROWS)


@pytest.mark.parametrize(
    ("form", "content", "fix"),
    [
        ("csv", "url;caption\nu;c\n", "separated by ';': write it with commas or tabs"),
        ("csv", "url| caption\nu| c\n", "separated by '|': write it with commas or tabs"),
        ("csv", "url\tcaption\nu\tc\n", "set `format: tsv`"),
        ("tsv", "url,caption\nu,c\n", "set `format: csv`"),
        ("tsv", "url;caption\nu;c\n", "separated by ';': write it with commas or tabs"),
        ("csv", "sep=,\nurl,caption\nu,c\n", "Remove its first line"),
        ("csv", "sep=;\nurl;caption\nu;c\n", "Remove its first line"),
        ("csv", "uri,caption\nu,c\n", "Correct `columns`"),
        ("csv", "\nuri\n", "Correct `columns`"),
        ("csv", "a;b,uri,caption\nu,c,d\n", "Correct `columns`"),
    ],
)
def test_another_delimiter_is_named(tmp_path: Path, form: str, content: str, fix: str) -> None:
    path = tmp_path / f"l.{form}"
    path.write_text(content)
    with pytest.raises(RecipeError) as error:
        pairs(tmp_path / "store", source(path, format=form))
    assert fix in error.value.details[0].fix
    assert "has no column 'url'" in str(error.value)


@pytest.mark.parametrize("path", ["s-{00000..00012}.tar", "{train,val}/*.tar"])
def test_braces_are_not_expanded_and_say_so(tmp_path: Path, path: str) -> None:
    (tmp_path / "s-00000.tar").write_bytes(tar_of({"1.jpg": jpeg()}))
    with pytest.raises(RecipeError, match="Braces are not expanded: write a glob"):
        pairs(tmp_path / "store", spec_of(tmp_path / path, "webdataset"))


def test_a_list_of_paths_says_what_to_write() -> None:
    with pytest.raises(RecipeError, match=r"sources\.0\.path: it is a list; write a glob"):
        parse_recipe({"name": "x", "sources": [source("a") | {"path": ["a", "b"]}]})


LINES = {
    "txt": URLS,
    "csv": [f"{url},c" for url in URLS],
    "tsv": [f"{url}\tc" for url in URLS],
    "cc12m": [f"{url}\tc" for url in URLS],
    "jsonl": [json.dumps(row) for row in ROWS],
}
HEADERS = {"csv": ["url,caption"], "tsv": ["url\tcaption"]}


@pytest.mark.parametrize("form", LINES)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\r\n"])
def test_marks_within_a_list_and_any_line_ends(tmp_path: Path, form: str, end: str) -> None:
    header, lines = HEADERS.get(form, []), LINES[form]
    parts = [[*header, *lines[:2]], [*header, *lines[2:]]]
    text = "".join("\ufeff" + "".join(line + end for line in part) for part in parts)
    path = tmp_path / f"l.{form}"
    path.write_bytes(text.encode())
    rows = pairs(tmp_path / "store", spec_of(path, form))
    good = {row["url"]: row["caption"] for row in rows if row["reason"] is None}
    assert good == dict.fromkeys(URLS, None if form == "txt" else "c")
    repeated = [row for row in rows if row["reason"] is not None]
    assert [row["reason"] for row in repeated] == ["bad_row"] * len(header)
    assert all("it repeats the header" in row["metadata"] for row in repeated)


def test_folders_of_systems_hold_no_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    names = ["a.jpg", "@eaDir/a.jpg/SYNOFILE_THUMB_M.jpg", "$RECYCLE.BIN/$R1.jpg", "ehthumbs.db"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg())
    rows = pairs(tmp_path / "store", source(folder, format="folder"))
    assert [row["source_key"] for row in rows] == ["a.jpg"]
    assert noted(tmp_path / "store") == {"hidden_file": 3}
