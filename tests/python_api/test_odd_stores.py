"""`curation.open` on stores of odd names and contents: without pixels, without vectors, in parts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curation
from curation.errors import StoreError
from curation.inspect.api.store import OpenStore

from ..gc.helpers import run_recipe
from ..vectors.helpers import source, without_pixels, write_list

KEYS = [f"k{n}" for n in range(12)]
NAMES = ("plain", "my-clip", "select", "0", "a_b", "vector")
ODD = "st öre [1] #%25 'x'"


def recipe(folder: Path, vectors: np.ndarray, names: tuple[str, ...]) -> dict[str, Any]:
    """A recipe over a list of keys and vectors with the same keys, under several names."""
    write_list(folder / "list.parquet", KEYS, caption=[f"caption {key}" for key in KEYS])
    np.save(folder / "v.npy", vectors)
    np.save(folder / "i.npy", np.array(KEYS))
    ids = {"join": "key", "file": str(folder / "i.npy")}
    encoder = {"import": str(folder / "v.npy"), "ids": ids}
    listed = source(folder / "list.parquet", key="key", caption="caption")
    spec = without_pixels(encoder, listed, cluster={"encoder": names[0], "levels": [2]})
    return spec | {"embed": {"encoders": dict.fromkeys(names, encoder)}}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of an odd name, and encoders of odd names; one row has no vector."""
    folder = tmp_path_factory.mktemp("odd")
    vectors = np.random.default_rng(0).normal(size=(len(KEYS), 4))
    vectors[3] = np.nan
    run_recipe(recipe(folder, vectors, NAMES), folder / ODD)
    return folder / ODD


def test_every_table_has_every_form(odd: Path) -> None:
    with curation.open(odd) as store:
        assert {f"embeddings.{name}" for name in NAMES} <= set(store.tables)
        assert store._repr_html_().count("<tr") > len(store.tables)
        for name in store.tables:
            table = store.table(name)
            forms = (table.arrow(), table.pandas(), table.polars(), table.duckdb().to_arrow_table())
            assert {len(form) for form in forms} == {table.rows}, name
            assert {tuple(form.columns) for form in forms[1:3]} == {tuple(table.columns)}
            assert table._repr_html_().count("<tr") >= min(table.rows, 10)


@pytest.mark.parametrize("name", NAMES)
def test_ids_of_vectors_lead_to_rows_and_back(name: str, odd: Path) -> None:
    with curation.open(odd) as store:
        vectors = store.vectors(name)
        assert vectors.vectors.shape == (len(KEYS) - 1, 4)
        rows = store.sql(
            f'SELECT source_key, pair_id, image_id, vector FROM embeddings."{name}" '
            "JOIN pairs USING (pair_id) WHERE vector IS NOT NULL"
        ).fetchall()
        by_pair = {pair: (image, vector) for _, pair, image, vector in rows}
        assert {key for key, *_ in rows} == set(KEYS) - {"k3"}
        for pair, image, vector in zip(*vectors, strict=True):
            assert by_pair[pair] == (image, tuple(vector.astype(np.float32).tolist()))
            assert store.why(image).rows[0]["pair_id"] == pair
        frame = store.table("eligible").pandas(["pair_id", "image_id"])
        assert frame["image_id"].isin(vectors.image_ids).sum() == len(KEYS) - 1


@pytest.mark.parametrize("name", NAMES)
def test_vectors_are_mapped_from_a_file(name: str, odd: Path, tmp_path: Path) -> None:
    with curation.open(odd) as store:
        mapped, plain = store.vectors(name, memmap=tmp_path / "v.npy"), store.vectors(name)
    np.testing.assert_array_equal(mapped.vectors, plain.vectors)
    np.testing.assert_array_equal(mapped.pair_ids, plain.pair_ids)


def test_a_store_in_which_no_row_has_a_vector(tmp_path: Path) -> None:
    spec = recipe(tmp_path, np.zeros((len(KEYS), 4)), ("semantic",))
    run_recipe(spec, tmp_path / "store", until="select")
    with curation.open(tmp_path / "store") as store:
        assert "dataset" not in store.tables
        for memmap in (None, tmp_path / "v.npy"):
            vectors = store.vectors("semantic", memmap=memmap)
            assert len(vectors.vectors) == len(vectors.pair_ids) == 0
        assert store.sql("SELECT count(vector) FROM embeddings.semantic").fetchall() == [(0,)]
        assert "semantic: not_finite" in str(store.why("k0"))
        assert "semantic" in store._repr_html_()


def opened(path: str | Path) -> tuple[str, ...]:
    with OpenStore(path) as store:
        return store.tables


def test_every_way_to_write_a_path_opens_the_store(
    odd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = opened(odd)
    monkeypatch.chdir(odd)
    for path in (".", f"../{ODD}", f"../{ODD}/", str(odd), odd.as_uri()):
        assert opened(path) == tables
    assert opened(Path("tables/..")) == tables


def test_a_first_run_that_keeps_no_image_says_why_and_can_be_read(tmp_path: Path) -> None:
    spec = recipe(tmp_path, np.eye(len(KEYS)), ("plain",))
    store = tmp_path / "store"
    with pytest.raises(StoreError, match=r"is eligible \(12 caption_length\).*nothing to cluster"):
        run_recipe(spec | {"select": {"caption_length": {"at_least": 500}}}, store)
    with pytest.raises(
        StoreError, match=r"of recipe '\w+' \(failed\)\. Name it \(--run (\S+)\)"
    ) as no_run:
        curation.open(store)
    (named,) = re.findall(r"--run ([^)]+)", str(no_run.value))
    with curation.open(store, run=named) as opened:
        assert opened.why("k3").rows[0]["select"]["reason"] == "caption_length"


def test_a_query_says_that_a_file_has_vanished(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(len(KEYS), 4))
    run_recipe(recipe(tmp_path, vectors, ("plain",)), tmp_path / "store")
    (file, *_) = (tmp_path / "store" / "tables" / "pairs" / "data").glob("*.parquet")
    file.unlink()
    with curation.open(tmp_path / "store") as store:
        with pytest.raises(StoreError, match=re.escape(file.name)):
            store.sql("FROM pairs")
        assert store.sql("FROM copies").fetchall()
