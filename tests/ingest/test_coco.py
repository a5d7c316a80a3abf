"""JSON of COCO and FiftyOne: rows name files, and annotations may stand anywhere."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from curation.errors import RecipeError, StoreError
from tests.ingest.helpers import jpeg, noted, pairs, run, source, table

IMAGES: list[dict[str, Any]] = [
    {"id": 7, "file_name": "a.jpg", "width": 32, "coco_url": "http://images.example/a.jpg"},
    {"id": "7", "file_name": "sub/b.jpg"},
    {"id": 9, "file_name": "c.jpg"},
]
ANNOTATIONS = [
    {"id": 1, "image_id": 7, "caption": "first"},
    {"id": 2, "image_id": "7", "category_id": 3, "bbox": [0, 1, 2, 3], "segmentation": [[0] * 99]},
    {"id": 3, "image_id": 7, "caption": "second"},
    {"id": 4, "image_id": 7, "category_id": 5, "iscrowd": 0},
    {"id": 5, "image_id": 404, "caption": "of no image"},
]
CAT = {"id": 2, "name": "cat"}
CATEGORIES = [{"id": 3, "name": "cat", "supercategory": "animal"}, {"id": 5, "name": "dog"}]


def write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def found(folder: Path, path: Path | str, **spec: Any) -> list[dict[str, Any]]:
    return pairs(folder / "store", source(path, columns={}) | {"format": "coco"} | spec)


@pytest.mark.parametrize("order", ["images first", "annotations first"])
def test_images_have_their_captions_and_categories(tmp_path: Path, order: str) -> None:
    parts: dict[str, Any] = {"info": {"year": 2017}, "licenses": [{"id": 1}], "images": IMAGES}
    parts |= {"annotations": ANNOTATIONS, "categories": CATEGORIES}
    names = list(parts) if order == "images first" else list(parts)[::-1]
    path = write(tmp_path / "data" / "l.json", {name: parts[name] for name in names})
    rows = found(tmp_path, path)
    same = [(r["source_key"], r["caption"], r["location"], r["reason"]) for r in rows]
    data = tmp_path / "data"
    assert same == [
        ("7", "first", f"{data}/a.jpg", None),
        ("7", None, f"{data}/sub/b.jpg", None),
        ("9", None, f"{data}/c.jpg", None),
    ]
    first, second, third = (json.loads(row["metadata"] or "{}") for row in rows)
    assert first["captions"] == ["second"]
    assert first["annotations"] == [{"category": "dog", "iscrowd": 0}]
    assert (first["width"], first["coco_url"]) == (32, IMAGES[0]["coco_url"])
    assert second == {"annotations": [{"bbox": [0, 1, 2, 3], "category": "cat"}]}
    assert third == {}
    assert noted(tmp_path / "store") == {"stray_annotation": 1}


def test_images_of_lvis_are_where_their_addresses_say(tmp_path: Path) -> None:
    address = "http://images.cocodataset.org/train2017/000000391895.jpg"
    listed = {"images": [{"id": 1, "coco_url": address}, {"id": 2}]}
    row, bad = found(tmp_path, write(tmp_path / "l.json", listed))
    assert row["location"] == f"{tmp_path}/train2017/000000391895.jpg" and row["reason"] is None
    assert json.loads(row["metadata"]) == {"coco_url": address}
    assert bad["reason"] == "bad_row" and "no file_name" in bad["metadata"]


@pytest.mark.parametrize("field", ["images", "samples"])
def test_a_file_name_that_is_an_address_is_the_url(tmp_path: Path, field: str) -> None:
    name = {"images": "file_name", "samples": "filepath"}[field]
    listed = {field: [{"id": 1, name: "https://images.example/a.jpg"}, {"id": 2, name: "b.jpg"}]}
    behind, inside = found(tmp_path, write(tmp_path / "l.json", listed))
    assert (behind["url"], behind["location"]) == ("https://images.example/a.jpg", None)
    assert (inside["url"], inside["location"]) == (None, f"{tmp_path}/b.jpg")
    assert behind["reason"] is inside["reason"] is None


def test_ids_that_became_fractions_are_the_same_ids(tmp_path: Path) -> None:
    """pandas writes whole numbers so where a column has gaps."""
    annotations = [{"image_id": 1.0, "category_id": 2.0}, {"image_id": 1.5, "caption": "of none"}]
    listed = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": annotations}
    bad, row = found(tmp_path, write(tmp_path / "l.json", listed | {"categories": [CAT]}))
    assert json.loads(row["metadata"]) == {"annotations": [{"category": "cat"}]}
    assert "it has no image_id" in json.loads(bad["metadata"])["unreadable"]


@pytest.mark.parametrize("order", ["images first", "annotations first"])
def test_images_that_share_an_id_get_no_caption_of_each_other(tmp_path: Path, order: str) -> None:
    """As in two lists that were joined without new ids."""
    images = [{"id": n, "file_name": f"{n}{name}.jpg"} for n in (1, 2) for name in "ab"]
    parts = {"images": [*images, {"id": 3, "file_name": "c.jpg"}]}
    parts["annotations"] = [
        {"id": n, "image_id": image, "caption": f"of {image}"} for n, image in enumerate((1, 2, 3))
    ]
    names = list(parts) if order == "images first" else list(parts)[::-1]
    rows = found(tmp_path, write(tmp_path / "l.json", {name: parts[name] for name in names}))
    assert [(r["caption"], r["reason"]) for r in rows] == [(None, None)] * 4 + [("of 3", None)]
    for row in rows[:4]:
        assert "2 images have its id" in json.loads(row["metadata"])["unreadable"]
    assert noted(tmp_path / "store") == {}


def test_a_key_that_stands_twice_in_an_object_makes_a_bad_row(tmp_path: Path) -> None:
    images = (
        '{"id": 1, "file_name": "a.jpg", "file_name": "b.jpg"}',
        '{"id": 2, "file_name": "c.jpg", "size": {"w": 1, "w": 2}}',
        '{"id": 3, "file_name": "d.jpg"}',
    )
    annotations = '{"image_id": 3, "caption": "x", "caption": "y"}'
    (tmp_path / "l.json").write_text(
        f'{{"images": [{", ".join(images)}], "annotations": [{annotations}]}}'
    )
    rows = found(tmp_path, tmp_path / "l.json")
    assert [(r["source_key"], r["reason"]) for r in rows] == [(None, "bad_row")] * 3 + [("3", None)]
    for row in rows[:3]:
        assert "stands twice in one object" in json.loads(row["metadata"])["unreadable"]


def test_samples_of_fiftyone(tmp_path: Path) -> None:
    samples = [
        {
            "_id": {"$oid": "65f"},
            "filepath": "data/1.jpg",
            "tags": ["train"],
            "ground_truth": {"_id": {"$oid": "1"}, "_cls": "Classification", "label": "cat"},
            "metadata": {"_cls": "ImageMetadata", "width": 32},
            "_media_type": "image",
        },
        {
            "id": "x",
            "filepath": str(tmp_path / "data" / "2.jpg"),
            "ground_truth": {"label": 5, "confidence": 0.5, "_cls": "Classification"},
        },
        {"id": "y", "filepath": "../up.jpg"},
        {"id": "z"},
        3,
    ]
    path = write(tmp_path / "samples.json", {"samples": samples})
    rows = found(tmp_path, path, columns={"caption": "ground_truth"})
    assert [(r["source_key"], r["caption"], r["reason"]) for r in rows] == [
        ("65f", "cat", None),
        ("x", "5", None),
        ("y", None, "outside_folder"),
        ("z", None, "bad_row"),
        (None, None, "bad_row"),
    ]
    assert json.loads(rows[0]["metadata"]) == {"metadata": {"width": 32}, "tags": ["train"]}
    assert json.loads(rows[1]["metadata"]) == {"ground_truth": {"confidence": 0.5}}
    assert "it has no filepath" in json.loads(rows[3]["metadata"])["unreadable"]


def test_images_are_in_the_root_that_the_recipe_names(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "a.jpg").write_bytes(jpeg(1))
    (tmp_path / "secret.jpg").write_bytes(jpeg(2))
    (tmp_path / "val" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    names = ["a.jpg", "../secret.jpg", str(tmp_path / "secret.jpg"), "link.jpg", "b.jpg"]
    listed = {"images": [{"id": n, "file_name": name} for n, name in enumerate(names)]}
    path = write(tmp_path / "annotations" / "l.json", listed)
    spec = source(path, columns={}) | {"format": "coco", "root": str(tmp_path / "val")}
    run(tmp_path / "store", spec, until="fetch")
    images = table(tmp_path / "store", "images").read().to_pylist()
    reasons = [None, "outside_folder", "outside_folder", "outside_folder", "file_missing"]
    assert [row["reason"] for row in images] == reasons


def test_a_root_that_has_no_effect_is_refused(tmp_path: Path) -> None:
    for form in ("folder", "webdataset", "img2dataset"):
        with pytest.raises(RecipeError, match="`root` has an effect only for"):
            found(tmp_path, tmp_path, format=form, root="elsewhere")


def test_damage_costs_what_follows_it(tmp_path: Path) -> None:
    whole = json.dumps({"annotations": ANNOTATIONS, "images": IMAGES})
    path = tmp_path / "l.json"
    path.write_text(whole[: whole.index('{"id": 9')])
    rows = found(tmp_path, path)
    assert [(r["caption"], r["reason"]) for r in rows] == [
        ("first", None),
        (None, None),
        (None, "bad_row"),
    ]


def test_a_byte_that_is_not_utf8_costs_its_item(tmp_path: Path) -> None:
    """As where a program copied a caption without converting it."""
    captions = [{"image_id": number, "caption": f"caption {number}"} for number in (1, 2)]
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in (1, 2, 3)]
    document = json.dumps({"annotations": captions, "images": images}).encode()
    odd = document.replace(b"caption 1", b"caf\xe9").replace(b"3.jpg", b"\xff.jpg")
    (tmp_path / "l.json").write_bytes(odd)
    rows = found(tmp_path, tmp_path / "l.json")
    read = {(r["source_key"], r["caption"], r["reason"]) for r in rows}
    assert read == {("1", None, None), ("2", "caption 2", None), (None, None, "bad_row")}
    why = sorted(json.loads(r["metadata"])["unreadable"] for r in rows if r["reason"])
    assert why == [
        "l.json, annotations 0: it is not UTF-8 (byte 0xe9)",
        "l.json, images 2: it is not UTF-8 (byte 0xff)",
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_another_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "l.json").write_bytes(json.dumps({"images": IMAGES}).encode(encoding))
    with pytest.raises(StoreError, match=r"l\.json .*is encoded in UTF-16 .*iconv"):
        found(tmp_path, tmp_path / "l.json")


@pytest.mark.parametrize("empty", ["", None, float("nan")])
@pytest.mark.parametrize("place", ["images", "annotations"])
def test_a_caption_that_is_empty_gives_way_to_the_next(
    tmp_path: Path, empty: Any, place: str
) -> None:
    image, texts = {"id": 1, "file_name": "a.jpg"}, ["one", "two"]
    if place == "images":
        image["caption"] = empty
    else:
        texts.insert(0, empty)
    captions = [{"image_id": 1, "caption": text} for text in texts]
    path = write(tmp_path / "l.json", {"images": [image], "annotations": captions})
    (row,) = found(tmp_path, path)
    assert (row["caption"], json.loads(row["metadata"])) == ("one", {"captions": ["two"]})


def test_an_array_of_rows_is_refused_with_its_mending(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"image": "1.jpg", "caption": "x"}]))
    spec = {"format": "coco", "columns": {}}
    with pytest.raises(StoreError, match=r"it is one JSON array.*jq -c '\.\[\]'.*jsonl"):
        pairs(tmp_path / "store", source(tmp_path / "a.json", **spec))


def test_a_second_object_in_a_file_is_not_lost_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "l.json"
    path.write_text(json.dumps({"images": IMAGES[:1]}) + "\n" + json.dumps({"images": IMAGES[1:]}))
    good, bad = found(tmp_path, path)
    assert (good["reason"], bad["reason"]) == (None, "bad_row")
    assert "more follows the end of its object" in bad["metadata"]
    assert noted(tmp_path / "store") == {"unreadable_file": 1}


def test_annotations_count_beside_samples_of_fiftyone(tmp_path: Path) -> None:
    content = {"samples": [{"filepath": "s.jpg"}], "images": IMAGES, "annotations": ANNOTATIONS}
    rows = found(tmp_path, write(tmp_path / "l.json", content))
    assert [row["caption"] for row in rows] == [None, "first", None, None]


def test_an_image_that_is_too_long_or_no_object_is_one_bad_row(tmp_path: Path) -> None:
    odd = [{"id": 1, "file_name": "a.jpg", "x": "[{\\" * 400_000}, [1], {"file_name": [1]}]
    rows = found(tmp_path, write(tmp_path / "l.json", {"images": [*odd, IMAGES[2]]}))
    assert [r["reason"] for r in rows] == ["bad_row", "bad_row", "bad_row", None]


def test_annotations_that_are_too_many_are_cut_and_said(tmp_path: Path) -> None:
    many = [{"image_id": 7, "text": "x" * 100_000} for _ in range(40)]
    path = write(tmp_path / "l.json", {"images": IMAGES, "annotations": many})
    rows = found(tmp_path, path)
    assert [r["reason"] for r in rows] == [None] * 3
    metadata = json.loads(rows[0]["metadata"])
    assert "left out" in metadata["unreadable"]


def test_other_json_of_a_folder_is_counted(tmp_path: Path) -> None:
    write(tmp_path / "data" / "metadata.json", {"name": "x", "classes": ["a"]})
    write(tmp_path / "data" / "samples.json", {"samples": [{"id": 1, "filepath": "a.jpg"}]})
    rows = found(tmp_path, tmp_path / "data")
    assert [row["reason"] for row in rows] == [None]
    assert noted(tmp_path / "store") == {"other_file": 1, "empty_file": 1}


def test_a_compressed_list_is_read(tmp_path: Path) -> None:
    path = tmp_path / "l.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"images": IMAGES}).encode()))
    assert len(found(tmp_path, path)) == 3
