"""Takedown on a real S3 server: what was taken down is in no object that is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from curation.engine.table import open_table
from curation.inspect.report.build import write_report
from curation.runner.gc.collect import collect
from curation.runner.takedown.prove import prove
from curation.store.store import Store
from curation.store.tags import add_tag
from tests.gc.helpers import NOW, build_tiny, recipe_of, run_recipe
from tests.takedown.helpers import forget, holding, url_of, with_urls


def downloaded(store: Store, folder: Path) -> Path:
    """All objects of a store as files of a new folder."""
    for path in store.storage.files("", recursive=True):
        content = store.storage.read(path)
        assert content is not None
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


@pytest.mark.nightly
def test_what_is_taken_down_leaves_every_object(
    new_address: Callable[[], str], tmp_path: Path
) -> None:
    store = Store(new_address())
    spec = with_urls(build_tiny(tmp_path / "web"), tmp_path / "web")
    record, _ = run_recipe(spec, store)
    write_report(recipe_of(spec), store)
    add_tag(store, "v1", record.run)
    images = open_table(store, "images").read().to_pylist()
    (by_image,) = [row for row in images if row["source_key"] == "p1"]
    (by_url,) = [row for row in images if row["source_key"] == "p5"]
    texts = [by_image["image_id"], by_image["pair_id"], by_url["pair_id"], url_of("p5")]
    texts = [str(text) for text in texts]
    before = downloaded(store, tmp_path / "before")
    assert len(holding(before, texts)) > 10

    done = forget(Store(store.uri), images=[texts[0]], urls=[url_of("p5")])
    assert done.hits.rows["images"] == 2
    left = open_table(Store(store.uri), "images").read().to_pylist()
    assert {row["source_key"] for row in left} == {r["source_key"] for r in images} - {"p1", "p5"}

    _, did = run_recipe(spec, Store(store.uri))
    assert 0 < did["fetch"].computed < did["fetch"].computed + did["fetch"].reused
    collected = collect(Store(store.uri), NOW)
    assert record.run in collected.removed
    assert collected.left == {}
    assert holding(downloaded(store, tmp_path / "after"), texts) == {}
    assert prove(Store(store.uri)).holds
