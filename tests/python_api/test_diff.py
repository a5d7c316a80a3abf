"""`curation diff` says why each image is in one of two datasets alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import curation
from curation.cli import app
from curation.errors import RecipeError, StoreError
from curation.inspect import diff
from curation.inspect.diff import difference, open_dataset

from ..e2e.small import encoded, picture, write_rows
from ..gc.helpers import edited, run_recipe
from .conftest import Made, recipe_with_urls


def test_a_row_that_lost_its_image_is_still_in_the_sources(tmp_path: Path) -> None:
    """A picture that is gone has no image_id any more: its row is known by its pair."""
    store, path = tmp_path / "store", tmp_path / "web" / "pool" / "a.parquet"
    spec = edited(recipe_with_urls(tmp_path / "web"), retrieve=[], dedup={"near": None})
    first, _ = run_recipe(spec, store)
    rows = pq.read_table(path).to_pylist()
    rows[1]["image"] = b"no picture"
    rows[3]["image"] = encoded(picture(2, np.random.default_rng(8), side=90))
    del rows[4]
    write_rows(path, rows)
    run_recipe(spec, store)
    with curation.open(store) as opened:
        pairs = "SELECT DISTINCT source_key, image_id FROM {} WHERE image_id IS NOT NULL"
        now = dict(opened.sql(pairs.format("images")).fetchall())
    with curation.open(store, run=first.run) as opened:
        before = dict(opened.sql(pairs.format("images")).fetchall())
    names = {image: key for key, image in [*before.items(), *now.items()]}
    compared = [open_dataset(f"{store}@{first.run}"), open_dataset(str(store))]
    changes = {
        (names[row["image_id"]], row["change"], row["reason"])
        for batch in difference(*compared)
        for row in batch.to_pylist()
    }
    assert changes == {
        ("p1", "removed", "not_an_image"),
        ("p3", "removed", "its_pair_has_another_image"),
        ("p3", "added", "its_pair_has_another_image"),
        ("p4", "removed", "not_in_sources"),
    }


@pytest.mark.parametrize(
    "place", ["{store}@", "s3://bucket/p@", "s3://bucket/p?region=x@", "s3://bucket/p@?region=x"]
)
def test_a_dataset_without_the_version_that_was_meant_is_refused(made: Made, place: str) -> None:
    """As a shell makes of `STORE@$RUN` if it knows no RUN: the latest was compared with itself."""
    named = place.format(store=made.store)
    done = CliRunner().invoke(app, ["diff", named, str(made.store)])
    assert isinstance(done.exception, RecipeError), done.output
    (detail,) = done.exception.details
    assert (detail.where, detail.found) == (named, "")
    assert "leave the @ out" in detail.fix


def test_a_beginning_of_versions_and_of_runs_is_refused(
    own: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, run = own.second.tables["dataset"], own.second.run
    monkeypatch.setattr(diff, "run_names", lambda store: [f"{version[:4]}1201T", run])
    with pytest.raises(StoreError, match="versions of the dataset and runs") as caught:
        open_dataset(f"{own.store}@{version[:4]}")
    assert caught.value.details[0].valid == (version, f"{version[:4]}1201T")
    for place in (version[:9], version, run):
        assert open_dataset(f"{own.store}@{place}").manifest.version == version


def test_no_image_in_a_range_of_ids_is_no_error(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of datasets without images, or all of whose images were taken down."""
    compared = [open_dataset(f"{made.store}@{run.run}") for run in (made.first, made.second)]
    assert compared[0].rows
    expected = [row for batch in difference(*compared) for row in batch.to_pylist()]
    monkeypatch.setattr(diff, "_buckets", lambda images: [("00", "00"), ("00", "g"), ("g", "g")])
    ranges = [batch.to_pylist() for batch in difference(*compared)]
    assert ranges == [[], expected, []]
