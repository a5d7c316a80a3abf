"""`curation init` recognises what other tools write, and the readers agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.engine.yaml_text import load_yaml
from curation.errors import RecipeError
from curation.inspect.check.check import check_recipe
from curation.inspect.check.survey import survey
from curation.inspect.first_recipe.draft import draft
from curation.inspect.first_recipe.text import recipe_text
from curation.media.web.params import OutboundParams
from curation.recipe import parse_recipe
from curation.stages.ingest.recognise import recognise
from curation.stages.ingest.recognise.place import place_of
from curation.stages.ingest.sources.source import Source

from ..ingest.entrances import Picture, as_coco, as_huggingface, as_parquet
from .files import LOCAL, pictures

PICTURES = [Picture(*picture) for picture in pictures(4)]


def found(path: Path) -> tuple[dict[str, Any], int, int]:
    """What is recognised at a path: fields, rows, and rows with a picture in a file."""
    place = place_of(str(path))
    fields = dict(recognise(place).fields)
    read = survey(place.source(**fields), OutboundParams())
    assert not read.bad
    return fields, len(read.read), read.local_images


def test_parquet_of_the_hub(tmp_path: Path) -> None:
    as_huggingface(tmp_path / "a", PICTURES)
    fields, rows, local = found(tmp_path / "a")
    assert (fields["format"], rows, local) == ("huggingface", 4, 4)
    as_parquet(tmp_path / "b", PICTURES)
    assert found(tmp_path / "b")[0]["format"] == "parquet"


def test_coco_finds_its_pictures(tmp_path: Path) -> None:
    LOCAL["folder"](tmp_path / "images", pictures(4))
    listed = [{"id": n, "file_name": f"{p.name}.jpg"} for n, p in enumerate(PICTURES)]
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations" / "instances.json"
    path.write_text(json.dumps({"info": {}, "images": listed, "annotations": []}))
    expected = {"format": "coco", "root": str(tmp_path / "images")}
    assert found(tmp_path) == (expected, 4, 4)
    as_coco(tmp_path / "b", PICTURES)
    assert found(tmp_path / "b")[0]["format"] == "coco"
    # JSON beside pictures that lists none is their metadata.
    (tmp_path / "images" / f"{PICTURES[0].name}.json").write_text('{"a": 1}')
    assert found(tmp_path / "images")[0] == {"format": "folder"}


def write_shard(path: Path) -> None:
    """Write what img2dataset writes for one shard."""
    LOCAL["webdataset"](path, pictures(4))
    (path / "00001.tar").unlink()
    rows: list[dict[str, Any]] = [
        dict[str, Any](key=p.name, url="http://a.example", caption=p.caption)
        | {"status": "success", "error_message": None}
        for p in PICTURES[::2]
    ]
    pq.write_table(pa.Table.from_pylist(rows), path / "00000.parquet")
    (path / "00000_stats.json").write_text("{}")


def test_an_output_of_img2dataset_is_recognised(tmp_path: Path) -> None:
    write_shard(tmp_path / "a")
    assert found(tmp_path / "a") == ({"format": "img2dataset"}, 2, 2)


def test_what_img2dataset_did_not_get_is_not_requested_and_needs_no_contact(tmp_path: Path) -> None:
    write_shard(tmp_path / "a")
    rows = pq.read_table(tmp_path / "a" / "00000.parquet").to_pylist()
    failed = {"key": "9", "status": "failed_to_download", "error_message": "HTTP Error 404"}
    rows.append(rows[0] | failed)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a" / "00000.parquet")
    drafted = draft([str(tmp_path / "a")])
    assert (drafted.pool_rows, drafted.contact) == (3, "")
    recipe = parse_recipe(load_yaml(recipe_text(drafted, "a.yaml")))
    assert check_recipe(recipe, pictures=0).problems == []


@pytest.mark.parametrize("has_urls", [True, False])
def test_an_output_of_clip_retrieval_needs_urls(tmp_path: Path, has_urls: bool) -> None:
    for name in ("img_emb", "metadata"):
        (tmp_path / name).mkdir()
    np.save(tmp_path / "img_emb" / "img_emb_0.npy", np.zeros((2, 4), np.float16))
    rows = [{"image_path": str(n), "caption": "a"} for n in range(2)]
    rows = [row | ({"url": "http://a.example/1.jpg"} if has_urls else {}) for row in rows]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "metadata" / "metadata_0.parquet")
    place = place_of(str(tmp_path))
    if not has_urls:
        with pytest.raises(RecipeError, match="holds vectors and no pictures"):
            recognise(place)
        return
    recognised = recognise(place)
    fields = recognised.fields
    assert "vectors are left alone" in recognised.notes[0]
    assert fields == {"format": "clip_retrieval", "columns": {"url": "url"}}
    assert Source(name="a", role="pool", path=str(tmp_path), **fields).reader == "clip_retrieval"
