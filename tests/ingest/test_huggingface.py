"""Parquet of the datasets library: its features decide what is an image, and what a label is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import RecipeError
from curation.stages.ingest.formats.huggingface import _named
from tests.ingest.entrances import write_features
from tests.ingest.helpers import jpeg, noted, pairs, run, source, table

IMAGE = {"_type": "Image"}
TEXT = {"dtype": "string", "_type": "Value"}
LABEL = {"names": ["cat", "dog"], "_type": "ClassLabel"}


def image(n: int, path: str | None = None) -> dict[str, Any]:
    return {"bytes": jpeg(n), "path": path}


def read(folder: Path, rows: list[dict[str, Any]], features: dict[str, Any], **spec: Any) -> Any:
    path = folder / "data" / "train-00000-of-00001.parquet"
    write_features(path, rows, features)
    return found(folder, path=str(folder / "data"), **spec)


def found(folder: Path, **spec: Any) -> list[dict[str, Any]]:
    return pairs(folder / "store", source("", columns={}) | {"format": "huggingface"} | spec)


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.int8(), pa.uint64()])
def test_labels_that_became_fractions_are_the_same_labels(
    tmp_path: Path, kind: pa.DataType
) -> None:
    """pandas makes fractions of the whole numbers of a column where one is missing."""
    labels = [0, 1, None, 1.5 if pa.types.is_floating(kind) else 7]
    table = pa.table({"image": [image(n) for n in range(4)], "label": pa.array(labels, kind)})
    info = json.dumps({"info": {"features": {"image": IMAGE, "label": LABEL}}})
    (tmp_path / "data").mkdir()
    pq.write_table(
        table.replace_schema_metadata({"huggingface": info}), tmp_path / "data" / "a.parquet"
    )
    rows = found(tmp_path, path=str(tmp_path / "data"), columns={"caption": "label"})
    assert [row["caption"] for row in rows] == ["cat", "dog", None, str(labels[3])]
    assert f"label {labels[3]} has no name" in json.loads(rows[3]["metadata"])["unreadable"]


def test_labels_are_named_in_metadata_and_captions(tmp_path: Path) -> None:
    nested = {"cats": {"feature": LABEL, "_type": "Sequence"}, "n": {"_type": "Value"}}
    rows = [
        {
            "image": image(n),
            "label": label,
            "deep": {"cats": [label, 1], "n": n},
            "many": [0, n % 2],
        }
        for n, label in enumerate((0, 1, -1, 7))
    ]
    many = {"feature": LABEL, "_type": "List"}
    features = {"image": IMAGE, "label": LABEL, "deep": nested, "many": many}
    rows = read(tmp_path, rows, features, columns={"caption": "label"})
    assert [row["caption"] for row in rows] == ["cat", "dog", None, "7"]
    metadata = [json.loads(row["metadata"]) for row in rows]
    assert metadata[1] == {"deep": {"cats": ["dog", "dog"], "n": 1}, "many": ["cat", "dog"]}
    assert "label 7 has no name" in metadata[3]["unreadable"]


def test_the_caption_is_the_column_caption_or_text_if_it_holds_text(tmp_path: Path) -> None:
    rows = [{"image": image(1), "text": "a"}, {"image": image(2), "text": "b"}]
    assert [r["caption"] for r in read(tmp_path / "a", rows, {"image": IMAGE, "text": TEXT})] == [
        "a",
        "b",
    ]
    lists = [{"image": image(1), "text": ["a"]}]
    of_lists = {"image": IMAGE, "text": {"feature": TEXT, "_type": "List"}}
    (row,) = read(tmp_path / "b", lists, of_lists)
    assert row["caption"] is None
    assert json.loads(row["metadata"]) == {"text": ["a"]}


def test_an_image_whose_path_is_an_address_is_behind_it(tmp_path: Path) -> None:
    """As of a column of URLs that was cast to one of images."""
    address = "https://images.example/a%20b.jpg?n=1"
    rows = [{"image": image(1)}, {"image": {"bytes": None, "path": address}}]
    inside, behind = read(tmp_path, rows, {"image": IMAGE})
    assert inside["location"].endswith("#image/0") and inside["url"] is None
    assert (behind["url_normalized"], behind["location"], behind["reason"]) == (address, None, None)


def test_several_columns_of_images_need_a_choice(tmp_path: Path) -> None:
    rows = [{"left": image(1), "right": image(2)}]
    features = {"left": IMAGE, "right": IMAGE}
    with pytest.raises(RecipeError, match="several columns of images: left, right"):
        read(tmp_path / "a", rows, features)
    (row,) = read(tmp_path / "b", rows, features, columns={"image": "right"})
    assert row["location"].endswith("#right/0")
    assert noted(tmp_path / "b" / "store") == {"column_of_bytes": 1}


def test_no_column_of_images_is_an_error_that_names_the_columns(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no column of images\. It has: text"):
        read(tmp_path, [{"text": "a"}], {"text": TEXT})


def test_a_list_of_images_in_a_row_says_what_to_write(tmp_path: Path) -> None:
    features = {"images": {"feature": IMAGE, "_type": "List"}}
    with pytest.raises(RecipeError, match=r"lists in images\).*row\['images'\]\[0\]"):
        read(tmp_path, [{"images": [image(1), image(2)]}], features)


def test_without_features_a_struct_of_bytes_and_path_is_an_image(tmp_path: Path) -> None:
    table_of = pa.Table.from_pylist([{"picture": image(3, "3.jpg"), "text": "c"}])
    pq.write_table(table_of, tmp_path / "t.parquet")
    (row,) = found(tmp_path, path=str(tmp_path / "t.parquet"))
    assert (row["caption"], row["reason"]) == ("c", None)


@pytest.mark.parametrize(
    "metadata", [b"no json", b"[]", b"{}", b'{"info": {"features": 3}}', b'{"info": []}', b"\xff"]
)
def test_features_that_cannot_be_read_cost_the_file(tmp_path: Path, metadata: bytes) -> None:
    (tmp_path / "d").mkdir()
    schema = pa.schema(
        [("image", pa.struct({"bytes": pa.binary(), "path": pa.string()}))],
        metadata={"huggingface": metadata},
    )
    bad = pa.Table.from_pylist([{"image": image(1)}], schema=schema)
    pq.write_table(bad, tmp_path / "d" / "a.parquet")
    write_features(tmp_path / "d" / "b.parquet", [{"image": image(2)}], {"image": IMAGE})
    rows = found(tmp_path, path=str(tmp_path / "d"))
    assert [row["reason"] for row in rows] == ["bad_row", None]
    assert "metadata `huggingface`" in json.loads(rows[0]["metadata"])["unreadable"]


def test_images_without_bytes_are_files_within_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "img").mkdir(parents=True)
    (folder / "img" / "1.jpg").write_bytes(jpeg(1))
    (tmp_path / "secret.jpg").write_bytes(jpeg(2))
    paths = [
        ("img/1.jpg", None),
        (str(folder / "img" / "1.jpg"), None),
        ("../secret.jpg", "outside_folder"),
        (str(tmp_path / "secret.jpg"), "outside_folder"),
        ("zip://img/1.jpg::https://a.example/x.zip", "outside_folder"),
        ("img/2.jpg", "file_missing"),
        ("", "no_image"),
        (None, "no_image"),
    ]
    rows = [{"image": {"bytes": None, "path": path}, "n": n} for n, (path, _) in enumerate(paths)]
    rows.append({"image": None, "n": len(paths)})
    read(tmp_path, rows, {"image": IMAGE, "n": {"_type": "Value"}})
    spec = source(folder, columns={}) | {"format": "huggingface"}
    run(tmp_path / "store", spec, until="fetch")
    images = table(tmp_path / "store", "images").read().to_pylist()
    assert [row["reason"] for row in images] == [*(reason for _, reason in paths), "no_image"]


def test_a_root_says_where_the_files_are(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.jpg").write_bytes(jpeg(1))
    rows = [{"image": {"bytes": None, "path": name}} for name in ("1.jpg", "../data/x.jpg")]
    root = str(tmp_path / "pictures")
    found_rows = read(tmp_path, rows, {"image": IMAGE}, root=root)
    assert [row["reason"] for row in found_rows] == [None, "outside_folder"]
    assert found_rows[0]["location"] == f"{root}/1.jpg"


def test_an_image_file_that_changed_is_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_features(
        folder / "a.parquet", [{"image": {"bytes": None, "path": "1.jpg"}}], {"image": IMAGE}
    )
    (folder / "1.jpg").write_bytes(jpeg(1))
    spec = source(folder, columns={}) | {"format": "huggingface"}
    first = run(tmp_path / "store", spec, until="fetch")
    assert not first["fetch"].up_to_date
    assert run(tmp_path / "store", spec, until="fetch")["fetch"].up_to_date
    (folder / "1.jpg").write_bytes(jpeg(2) + b"\0")
    assert not run(tmp_path / "store", spec, until="fetch")["fetch"].up_to_date


Typed = tuple[dict[str, Any], Any]
"""A feature, and a value of it."""


def listed(inner: Typed, length: int) -> Typed:
    return {"_type": "List", "feature": inner[0]}, [inner[1]] * length


def struct(fields: dict[str, Typed]) -> Typed:
    return {n: f for n, (f, _) in fields.items()}, {n: v for n, (_, v) in fields.items()}


TYPED: st.SearchStrategy[Typed] = st.recursive(
    st.tuples(st.just(LABEL), st.integers(0, 1))
    | st.tuples(st.just({"_type": "Value", "dtype": "int64"}), st.integers(0, 1) | st.none()),
    lambda inner: (
        st.builds(listed, inner, st.integers(0, 3))
        | st.dictionaries(st.sampled_from("abc"), inner, max_size=3).map(struct)
    ),
    max_leaves=8,
)


def numbered(value: Any) -> Any:
    """The value with the numbers of its labels again."""
    if isinstance(value, list):
        return [numbered(item) for item in value]
    if isinstance(value, dict):
        return {name: numbered(item) for name, item in value.items()}
    return LABEL["names"].index(value) if isinstance(value, str) else value


@settings(max_examples=100, deadline=None)
@given(typed=TYPED)
def test_each_number_of_a_label_is_named_and_nothing_else_changes(typed: Typed) -> None:
    feature, value = typed
    problems: list[str] = []
    named = _named(value, feature, problems)
    assert numbered(named) == value
    assert problems == []
    assert (named == value) == ("ClassLabel" not in json.dumps(feature) or not has_label(typed))


def has_label(typed: Typed) -> bool:
    feature, value = typed
    if isinstance(value, list):
        return any(has_label((feature["feature"], item)) for item in value)
    if isinstance(value, dict):
        return any(has_label((feature[name], item)) for name, item in value.items())
    return feature == LABEL


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["_type", "names", "feature", "a"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(value=JSON, feature=JSON | st.just(LABEL))
def test_odd_features_fail_nothing(value: Any, feature: Any) -> None:
    _named(value, feature, [])
