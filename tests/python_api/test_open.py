"""`curation.open`: the current tables in every form, their versions and their vectors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curation
from curation.engine.contract import contract
from curation.engine.table import open_table
from curation.errors import RecipeError, StoreError
from curation.inspect.api.store import OpenStore
from curation.store.store import Store

from ..gc.helpers import edited, run_recipe
from ..takedown.helpers import forget, url_of
from .conftest import HOSTILE, Made


def plain(value: Any) -> Any:
    """A value that is equal in all libraries."""
    if value is None or (isinstance(value, float) and np.isnan(value)) or value is pl.Null:
        return None
    if isinstance(value, np.ndarray | list | tuple | pl.Series):
        return tuple(plain(item) for item in value)
    if isinstance(value, dict):
        return tuple((name, plain(item)) for name, item in value.items())
    return (
        round(float(value), 6)
        if isinstance(value, float | np.floating | int | np.integer)
        else value
    )


def rows_of(records: Sequence[Mapping[Any, Any]]) -> Counter[Any]:
    return Counter(tuple((name, plain(value)) for name, value in row.items()) for row in records)


def test_all_forms_of_all_tables_have_the_same_rows(opened: OpenStore) -> None:
    for name in opened.tables:
        table = opened.table(name)
        expected = rows_of(table.arrow().to_pylist())
        stored = open_table(Store(opened.address), name, table.version).read()
        assert sum(expected.values()) == len(stored) == len(table) == table.rows
        assert table.columns == stored.column_names == table.schema.names
        assert rows_of(table.polars().to_dicts()) == expected, name
        assert rows_of(table.pandas().to_dict("records")) == expected, name
        assert rows_of(table.duckdb().to_arrow_table().to_pylist()) == expected, name
        batches = pa.Table.from_batches(table.batches(rows=3), table.schema)
        assert batches.equals(table.arrow().cast(table.schema)), name


@pytest.mark.parametrize("recipe", ["limited", "balanced"])
def test_aligned_tables_have_the_same_rows_in_the_same_places(limited: Path, recipe: str) -> None:
    with curation.open(limited, recipe) as store:
        aligned = [name for name in store.tables if contract(name).aligned]
        assert {"pairs", "images", "tallies", "eligible", "embeddings.semantic"} <= set(aligned)
        ids = {name: store.table(name).arrow(["pair_id"]).column("pair_id") for name in aligned}
    sources = len({pair["source"] for pair in store.table("pairs").arrow(["source"]).to_pylist()})
    assert sources == 4
    for name in aligned:
        assert ids[name].equals(ids["images"]), name


def test_vectors_are_lists_of_the_stored_numbers(opened: OpenStore) -> None:
    for name, dtype in (("embeddings.semantic", "<f2"), ("centroids", "<f4")):
        stored = open_table(Store(opened.address), name).read().column("vector").to_pylist()
        shown = opened.table(name).arrow(["vector"]).column("vector")
        assert shown.type == pa.list_(pa.float32(), 192)
        for raw, vector in zip(stored, shown.to_pylist(), strict=True):
            assert (raw is None) == (vector is None)
            if raw is not None:
                np.testing.assert_array_equal(np.frombuffer(raw, dtype), np.float32(vector))
    kinds = dict(
        opened.sql("DESCRIBE embeddings.semantic").select("column_name, column_type").fetchall()
    )
    assert kinds["vector"] == "FLOAT[192]"


def test_ids_of_vectors_are_those_of_the_tables(opened: OpenStore) -> None:
    vectors = opened.vectors("semantic")
    images = opened.table("images").pandas(["pair_id", "image_id", "status"])
    fetched = images[images["status"] == "ok"]
    assert fetched["image_id"].isin(vectors.image_ids).all()
    assert sorted(fetched["pair_id"]) == sorted(vectors.pair_ids.tolist())
    assert np.concatenate(
        [b.vectors for b in opened.vector_batches("semantic", rows=5)]
    ).tolist() == (vectors.vectors.tolist())


@pytest.mark.parametrize("rows", [-3, 0, 1, 7, 1000, 2**63])
def test_the_head_of_a_table_has_that_many_rows(opened: OpenStore, rows: int) -> None:
    for name in opened.tables:
        table = opened.table(name)
        head = table.head(rows)
        assert len(head) == min(max(rows, 0), table.rows)
        assert head.to_pylist() == table.arrow(head.column_names).slice(0, len(head)).to_pylist()


def test_only_the_current_version_is_read(made: Made, opened: OpenStore) -> None:
    """The folder of a table holds the files of older versions too."""
    folder = made.store / "tables" / "eligible" / "data"
    in_folder = sum(pq.read_metadata(path).num_rows for path in folder.glob("*.parquet"))
    ((count,),) = opened.sql("SELECT count(*) FROM eligible").fetchall()
    assert count == opened.table("eligible").rows < in_folder
    assert opened.table("eligible").version == made.second.tables["eligible"]
    earlier = opened.table("eligible", version=made.first.tables["eligible"][:8])
    assert earlier.version == made.first.tables["eligible"] != made.second.tables["eligible"]
    reasons = earlier.arrow(["reason"]).column("reason").to_pylist()
    assert "caption_length" not in reasons
    assert (
        "caption_length" in opened.table("eligible").arrow(["reason"]).column("reason").to_pylist()
    )


def test_versions_state_what_the_files_have(made: Made, opened: OpenStore) -> None:
    for version in opened.versions():
        paths = open_table(Store(made.store), version.table, version.version).paths()
        assert version.bytes == sum(Path(path).stat().st_size for path in paths), version.table
        assert version.rows == sum(pq.read_metadata(path).num_rows for path in paths)
        assert version.seconds is not None
        assert version.seconds >= 0
        assert version.run == made.second.run
    listed = opened.versions("eligible")
    expected = {made.first.tables["eligible"], made.second.tables["eligible"]}
    assert {version.version for version in listed} == expected
    assert {version.run for version in listed} == {made.first.run, made.second.run}


def test_notebooks_complete_all_that_the_package_offers() -> None:
    assert set(curation.__all__) <= set(dir(curation))


def test_a_run_may_be_named_by_its_beginning(made: Made) -> None:
    store = curation.open(made.store, run=made.first.run[:-3])
    assert store.run == made.first.run
    assert store.table("eligible").version == made.first.tables["eligible"]
    with pytest.raises(StoreError, match=r"no run in .* has the tag 'nope' or a name"):
        curation.open(made.store, run="nope")
    with pytest.raises(StoreError, match=r"is of recipe 'tiny' .* not of 'other'"):
        curation.open(made.store, recipe="other", run=made.first.run)
    # A mistyped path of the store is not a question of the run.
    with pytest.raises(StoreError, match="there is no store at"):
        curation.open(made.store / "nope", run=made.first.run)


def test_several_recipes_must_be_told_apart(
    own: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = edited(own.recipe, name="other")
    run_recipe(other, own.store, until="screen")
    with pytest.raises(
        StoreError, match=r"runs of 2 recipes.*other \(latest run .*tiny \(latest run"
    ):
        curation.open(own.store)
    assert curation.open(own.store, recipe="tiny").run == own.second.run
    partial = curation.open(own.store, recipe="other")
    assert partial.tables == ("images", "pairs", "scores")
    with pytest.raises(StoreError, match=r"no finished run of recipe 'third'.*tiny"):
        curation.open(own.store, recipe="third")
    for name in ("recipe.yaml", "recipe.json", "recipe"):
        file = tmp_path / name
        file.write_text(json.dumps(own.recipe))
        assert curation.open(own.store, recipe=str(file)).run == own.second.run
        assert curation.open(own.store, recipe=file).run == own.second.run
    monkeypatch.chdir(tmp_path)
    assert curation.open(own.store, recipe=Path("recipe")).run == own.second.run
    for missing in ("absent.yaml", "absent.json", "absent/recipe"):
        with pytest.raises(RecipeError, match=f"Cannot read the recipe '{missing}': No such"):
            curation.open(own.store, recipe=missing)


def test_tables_of_an_earlier_run_complete_a_partial_one(own: Made) -> None:
    spec = edited(own.recipe, select={"caption_length": {"at_least": 2}})
    record, _ = run_recipe(spec, own.store, until="select")
    store = curation.open(own.store)
    assert store.run == record.run
    assert store.table("eligible").version == record.tables["eligible"]
    assert store.table("dataset").version == own.second.tables["dataset"]
    assert store.table("dataset").run == own.second.run


def test_what_is_not_there_is_an_error_that_says_what_is(opened: OpenStore, tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"no table 'copie' \(did you mean 'copies'\?\).*assignments"
    ):
        opened.table("copie")
    with pytest.raises(StoreError, match=r"no column 'imageid' \(did you mean 'image_id'\?\)"):
        opened.table("copies").arrow(["imageid"])
    with pytest.raises(TypeError, match=r"give \['image_id'\]"):
        opened.table("copies").arrow("image_id")
    with pytest.raises(StoreError, match=r"embeddings\.copy"):
        opened.vectors("copy")
    with pytest.raises(StoreError, match="has no finished run"):
        curation.open(tmp_path)


def test_a_notebook_shows_pictures_and_escapes_captions(opened: OpenStore) -> None:
    shown = opened._repr_html_()
    assert shown.count("data:image/jpeg;base64,") >= 2
    assert all(name in shown for name in opened.tables)
    assert f"</b> in {opened.address}<br>" in shown
    # Small tables have a size, too.
    assert "0.0 MB" not in shown and " kB<" in shown
    table = opened.table("images")._repr_html_()
    assert f"<b>images</b>: {opened.table('images').grain}<br>" in table
    for page in (shown, table):
        assert "<script" not in page
        assert "\x1b" not in page
    assert "&lt;script&gt;" in table
    assert "image" not in opened.table("images").head().column_names
    assert repr(opened).startswith("<store ")
    assert "one fetched image" in repr(opened.table("copies"))


@pytest.mark.parametrize("named", ["urls", "images"])
def test_what_was_taken_down_is_in_no_form(own: Made, named: str) -> None:
    before = curation.open(own.store)
    copies = before.table("copies").pandas()
    gone = copies[copies["copies"].notna()].iloc[0]
    # The picture has a copy with the same bytes under another URL.
    url = url_of("again")
    before.close()
    forget(own.store, **({"urls": [url]} if named == "urls" else {"images": [gone["image_id"]]}))
    secret = url if named == "urls" else gone["image_id"]
    with curation.open(own.store) as store:
        for name in store.tables:
            table = store.table(name)
            forms = [
                table.arrow().to_pylist(),
                table.polars().to_dicts(),
                table.duckdb().to_arrow_table().to_pylist(),
                [row for batch in table.batches() for row in batch.to_pylist()],
                store.sql(f"SELECT * FROM {name}").to_arrow_table().to_pylist(),
            ]
            counts = [rows_of(form) for form in forms]
            assert all(count == counts[0] for count in counts), name
            assert secret not in str(forms), name
        assert len(store.table("images").arrow()) < store.table("images").rows
        shown = store.table("images")
        assert all(
            "rows that were taken down" in text for text in (repr(shown), shown._repr_html_())
        )
        assert store.why(secret).kind is None
        if named == "images":
            assert secret not in store.vectors("semantic").image_ids
        assert secret not in store._repr_html_()


def test_the_package_is_imported_without_its_libraries() -> None:
    code = (
        "import sys, curation; curation.open; "
        "print([m for m in ('numpy', 'pandas', 'pyarrow', 'duckdb', 'torch', 'pyspark', 'pydantic') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_hostile_text_is_kept_as_data(opened: OpenStore) -> None:
    assert HOSTILE in opened.table("images").arrow(["caption"]).column("caption").to_pylist()
