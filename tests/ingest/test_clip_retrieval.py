"""Metadata of clip-retrieval: one row for each vector, in their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import RecipeError
from tests.ingest.helpers import jpeg, noted, pairs, run, source, table

PARTS, ROWS = 11, 3


def vector(number: int) -> npt.NDArray[np.float64]:
    """The vector of a row."""
    return np.array([1.0, number, number % 7, -1.0])


def write(folder: Path) -> list[str]:
    """Write an output as its writer does (compared with its own files); return the keys in order."""
    keys = []
    for part in range(PARTS):
        names = [f"{part:05d}{row:04d}" for row in range(ROWS)]
        keys += names
        of_part = {
            "image_path": names,
            "caption": [f"caption {name}" for name in names],
            "url": [f"http://{row}.example/{part}.jpg" for row in range(ROWS)],
            "width": [32] * ROWS,
        }
        for kind in ("img_emb", "text_emb"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            vectors = [vector(part * ROWS + row) for row in range(ROWS)]
            np.save(folder / kind / f"{kind}_{part:02d}.npy", np.array(vectors, np.float16))
        (folder / "metadata").mkdir(exist_ok=True)
        pq.write_table(pa.table(of_part), folder / "metadata" / f"metadata_{part:02d}.parquet")
    return keys


def found(folder: Path, **spec: Any) -> list[dict[str, Any]]:
    path = folder / "clip"
    return pairs(folder / "store", source(path, columns={}) | {"format": "clip_retrieval"} | spec)


def test_rows_are_in_the_order_of_the_vectors(tmp_path: Path) -> None:
    keys = write(tmp_path / "clip")
    rows = found(tmp_path, columns={"url": "url"})
    assert [row["source_key"] for row in rows] == keys
    assert [row["caption"] for row in rows] == [f"caption {key}" for key in keys]
    assert {row["reason"] for row in rows} == {None}
    assert noted(tmp_path / "store") == {"other_file": 2 * PARTS}


def test_its_vectors_are_imported_by_the_order_of_rows(tmp_path: Path) -> None:
    """Without pixels: neither URLs nor files are needed."""
    keys = write(tmp_path / "clip")
    spec = source(tmp_path / "clip", columns={}) | {"format": "clip_retrieval"}
    vectors = {"import": str(tmp_path / "clip" / "img_emb"), "ids": {"join": "rows"}}
    blocks = {"fetch": {"pixels": "none"}, "embed": {"encoders": {"semantic": vectors}}}
    run(tmp_path / "store", spec, until="embed", **blocks)
    images = table(tmp_path / "store", "images").read().to_pylist()
    embedded = table(tmp_path / "store", "embeddings.semantic").read().to_pylist()
    by_key = {
        image["source_key"]: np.frombuffer(row["vector"], np.float16)
        for image, row in zip(images, embedded, strict=True)
    }
    for number, key in enumerate(keys):
        expected = vector(number) / np.linalg.norm(vector(number))
        np.testing.assert_allclose(by_key[key].astype(np.float64), expected, atol=1e-3)


def test_paths_of_images_can_be_mapped(tmp_path: Path) -> None:
    write(tmp_path / "clip")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "000000000").write_bytes(jpeg())
    columns = {"path": "image_path", "key": "image_path"}
    rows = found(tmp_path, columns=columns, root=str(tmp_path / "pictures"))
    assert rows[0]["location"] == f"{tmp_path}/pictures/000000000"
    assert {row["reason"] for row in rows} == {None}


def test_a_column_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "clip")
    with pytest.raises(RecipeError, match="no column 'address'"):
        found(tmp_path, columns={"url": "address"})
