"""Columns of every type and name are read, or say why not."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import RecipeError
from curation.media.files.parquet_images import leaves
from tests.ingest.helpers import jpeg, noted, pairs, run, source, table

URLS = [f"http://a.example/{n}" for n in range(2)]
TWICE = pa.StructArray.from_arrays([pa.array([1, 2]), pa.array(["a", "b"])], names=["tag", "tag"])

IDS = [UUID(int=number) for number in (1, 2)]
UUIDS = pa.array([each.bytes for each in IDS], pa.uuid())

COLUMNS: dict[str, tuple[pa.Array, Any]] = {
    "a struct with a field twice": (TWICE, {"tag": [1, "a"]}),
    "a list of such structs": (pa.ListArray.from_arrays([0, 1, 2], TWICE), [{"tag": [1, "a"]}]),
    "a map with a key twice": (
        pa.array([[("k", 1), ("k", 2)], []], pa.map_(pa.string(), pa.int64())),
        [["k", 1], ["k", 2]],
    ),
    "a dictionary": (pa.array(["a", "b"]).dictionary_encode(), "a"),
    "large text": (pa.array(["a", "b"], pa.large_string()), "a"),
    "a view": (pa.array(["a", "b"], pa.string_view()), "a"),
    "a decimal": (pa.array([Decimal("1.50"), None]), "1.50"),
    "a date": (pa.array([date(2026, 1, 2), None]), "2026-01-02"),
    "a date that Python has not": (
        pa.array([10**8, 0], pa.int32()).cast(pa.date32()),
        "<value out of range: 100000000>",
    ),
    "nanoseconds": (pa.array([1, 2]).cast(pa.timestamp("ns")), "1970-01-01T00:00:00.000000001"),
    "a zone that nobody knows": (
        pa.array([1, 2]).cast(pa.timestamp("ms", "No/Such")),
        "1 timestamp[ms, tz=No/Such]",
    ),
    "half floats": (pa.array([1.5, 2.0], pa.float16()), 1.5),
    "nulls": (pa.nulls(2), None),
    "UUIDs": (UUIDS, str(IDS[0])),
    "structs of UUIDs": (pa.StructArray.from_arrays([UUIDS], ["id"]), {"id": str(IDS[0])}),
    "lists of lists": (pa.array([[[1], []], []]), [[1], []]),
    "fixed lists": (pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)), [1.0, 2.0]),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_that_is_only_carried_along_ends_no_run(tmp_path: Path, kind: str) -> None:
    column, first = COLUMNS[kind]
    pq.write_table(
        pa.table({"url": URLS, "caption": ["x", "y"], "extra": column}), tmp_path / "l.parquet"
    )
    rows = pairs(tmp_path / "store", source(tmp_path / "l.parquet"))
    assert [r["reason"] for r in rows] == [None, None]
    by_url = {r["url"]: json.loads(r["metadata"]) for r in rows}
    assert by_url[URLS[0]] == {"extra": first}
    assert noted(tmp_path / "store") == {}


def test_a_key_may_be_a_uuid(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": URLS, "id": UUIDS}), tmp_path / "l.parquet")
    spec = source(tmp_path / "l.parquet", columns={"url": "url", "key": "id"})
    assert {r["source_key"] for r in pairs(tmp_path / "store", spec)} == set(map(str, IDS))


def test_leaves_are_counted_as_parquet_does(tmp_path: Path) -> None:
    columns = {name: column for name, (column, _) in COLUMNS.items()}
    pq.write_table(pa.table(columns), tmp_path / "l.parquet")
    file = pq.ParquetFile(tmp_path / "l.parquet")
    last = leaves(file.schema_arrow, len(columns) - 1)
    assert last.stop == file.metadata.num_columns


def test_names_with_dots_and_names_twice_are_told_apart(tmp_path: Path) -> None:
    images, captions = [jpeg(1), jpeg(2)], {"cap": ["a", "b"]}
    structs = [{"path": "x", "bytes": image} for image in images]
    tables = {
        "flat": pa.table({"img": images, "img.bytes": [1, 2], "cap.lang": ["en"] * 2} | captions),
        "struct": pa.table({"img.bytes": [b"junk"] * 2, "img": structs} | captions),
        "twice": pa.Table.from_arrays(
            [pa.array(images), pa.array(["a", "b"]), pa.array([1, 2]), pa.array([3, 4])],
            names=["img", "cap", "x", "x"],
        ),
        "dictionary": pa.table({"img": pa.array(images).dictionary_encode(), "cap": ["a", "b"]}),
        "view": pa.table({"img": pa.array(images, pa.binary_view()), "cap": ["a", "b"]}),
        "dotted": pa.table({"image.data": images, "text.en": ["a", "b"], "text": ["x"] * 2}),
    }  # fmt: skip
    dotted = {"image": "image.data", "caption": "text.en"}
    sources = []
    for name, content in tables.items():
        pq.write_table(content, tmp_path / f"{name}.parquet")
        columns = dotted if name == "dotted" else {"image": "img", "caption": "cap"}
        sources.append(source(tmp_path / f"{name}.parquet", name=name, columns=columns))
    run(tmp_path / "store", *sources, until="fetch")
    stored_rows = table(tmp_path / "store", "images").read().to_pylist()
    for name in tables:
        rows = [(r["status"], r["caption"]) for r in stored_rows if r["source"] == name]
        assert rows == [("ok", "a"), ("ok", "b")], name
    twice = [json.loads(r["metadata"]) for r in stored_rows if r["source"] == "twice"]
    assert twice == [{"x": [1, 3]}, {"x": [2, 4]}]
    assert noted(tmp_path / "store", "struct") == {"column_of_bytes": 1}


def test_a_column_of_images_may_be_empty_in_one_file(tmp_path: Path) -> None:
    (tmp_path / "l").mkdir()
    pq.write_table(pa.table({"img": [jpeg(1)], "cap": ["a"]}), tmp_path / "l" / "1.parquet")
    pq.write_table(pa.table({"img": pa.nulls(1), "cap": ["b"]}), tmp_path / "l" / "2.parquet")
    spec = source(tmp_path / "l", columns={"image": "img", "caption": "cap"})
    rows = pairs(tmp_path / "store", spec)
    assert [r["reason"] for r in rows] == [None, "no_image"]


def test_text_that_is_not_utf8_is_told_wherever_it_stands(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"bad \xff"])
    text = pa.StringArray.from_buffers(2, raw.buffers()[1], raw.buffers()[2])
    for number, column in enumerate([text, pa.ListArray.from_arrays([0, 1, 2], text)]):
        content = pa.table({"url": URLS, "caption": ["x", "y"], "extra": column})
        pq.write_table(content, tmp_path / f"{number}.parquet")
        rows = pairs(tmp_path / f"store{number}", source(tmp_path / f"{number}.parquet"))
        assert sorted(str(r["reason"]) for r in rows) == ["None", "bad_row"]
        (bad,) = (r for r in rows if r["reason"])
        problem = json.loads(bad["metadata"])["unreadable"]
        assert problem == f"{number}.parquet, row 1: column 'extra': it is not UTF-8"


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_columns_in_the_names_of_folders_are_columns(tmp_path: Path, kind: str) -> None:
    for folder in ("lang=en%2Fus", "lang=__HIVE_DEFAULT_PARTITION__"):
        (tmp_path / "l" / folder / "year=2024").mkdir(parents=True)
        path = tmp_path / "l" / folder / "year=2024" / f"part-0.{kind}"
        row = {"url": f"http://a.example/{folder[5]}", "caption": "c", "n": "1"}
        if kind == "parquet":
            pq.write_table(pa.Table.from_pylist([row]), path)
        elif kind == "csv":
            path.write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")
        else:
            path.write_text(json.dumps(row))
    (tmp_path / "l" / "_SUCCESS").touch()
    (tmp_path / "l" / ".part-0.crc").touch()
    (tmp_path / "l" / "notes.md").touch()
    columns = {"url": "url", "caption": "caption", "key": "lang"}
    rows = pairs(tmp_path / "store", source(tmp_path / "l", format=kind, columns=columns))
    assert {r["source_key"] for r in rows} == {"en/us", None}
    assert [json.loads(r["metadata"]) for r in rows] == [{"n": "1", "year": "2024"}] * 2
    assert noted(tmp_path / "store") == {"hidden_file": 2, "other_file": 1}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"format": "parquet", "quoting": "none"}, "`quoting` has an effect only for csv and tsv"),
        ({"format": "folder", "image": "png"}, "`image` has an effect only for webdataset"),
        ({"at": "s3://b/l.parquet", "follow_links": True}, "`follow_links` has an effect only for"),
        ({"columns": {"image": "a", "path": "b"}}, "maps both image and path"),
    ],
)
def test_settings_without_an_effect_are_refused(
    tmp_path: Path, spec: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        pairs(tmp_path / "store", source(spec.pop("at", tmp_path), **spec))


def test_an_empty_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="the path is empty"):
        pairs(tmp_path / "store", source(" "))


def test_a_missing_column_suggests_the_one_that_was_meant(tmp_path: Path) -> None:
    pq.write_table(pa.table({"Url": URLS, "caption": ["x", "y"]}), tmp_path / "l.parquet")
    with pytest.raises(RecipeError, match=r"no column 'url', .*did you mean 'Url'"):
        pairs(tmp_path / "store", source(tmp_path / "l.parquet"))
