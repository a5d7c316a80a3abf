"""Edited copies of a picture that is taken down: those that are stored, and those of later crawls."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from curation import launch
from curation.algorithms.arrays.vectors import comparable_rows, vector_matrix
from curation.cli import app
from curation.engine.cluster import Cluster
from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.errors import RecipeError, TakenDownError
from curation.flow import plan, select_steps
from curation.runner.takedown.copies import find_copies
from curation.runner.takedown.prove import prove
from curation.store.run_log import Recompute, read_runs
from curation.store.store import Store
from curation.store.tombstones import (
    Hits,
    Tombstone,
    open_takedowns,
    put_hits,
    put_tombstone,
    read_takedowns,
)

from ..e2e.small import encoded, write_rows
from ..gc.helpers import copied, gc, recipe_of, run_recipe
from ..verify.test_compare import EDITS, drawn
from .helpers import HOST, forget, holding, url_of

COPIES = {name: EDITS[name] for name in ("mirrored crop", "turned", "framed")}
"""Edits that the pool has of its fourth picture."""
LATER = "mirrored"
PICTURES = 5
OF = 3


def row(key: str, image: Image.Image) -> dict[str, Any]:
    return {"key": key, "url": url_of(key), "image": encoded(image), "caption": f"caption {key}"}


def build(folder: Path) -> dict[str, Any]:
    """Write a pool of drawings with copies of one; return the recipe."""
    rows = [row(f"p{n}", drawn(n)) for n in range(PICTURES)]
    rows += [row(name.replace(" ", "-"), edit(drawn(OF))) for name, edit in COPIES.items()]
    write_rows(folder / "pool" / "a.parquet", rows)
    columns = {name: name for name in ("key", "url", "image", "caption")}
    place = {"format": "parquet", "path": str(folder / "pool"), "columns": columns}
    return {
        "name": "drawings",
        "sources": [{"name": "web", "role": "pool", **place}],
        "ingest": {"rows_per_fragment": 4},
        "screen": {"filters": ["min_side"]},
        "embed": {"batch_size": 4, "encoders": {"copy": {"model": "copy_micro"}}},
    }


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("copies")
    spec = build(folder / "web")
    run_recipe(spec, folder / "store", until="dedup")
    return spec, folder / "store"


@pytest.fixture
def store(base: tuple[dict[str, Any], Path], tmp_path: Path) -> Path:
    return copied(base[1], tmp_path / "store")


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The picture as its author has it: another file, larger than what is stored."""
    path = tmp_path / "mine.png"
    drawn(OF).resize((800, 600)).save(path)
    return path


def shown(store: Path) -> dict[str, dict[str, Any]]:
    """The fetched rows by key."""
    rows = open_table(Store(store), "images").read().to_pylist()
    return {row["source_key"]: row for row in rows if row["status"] == "ok"}


def others() -> set[str]:
    return {f"p{n}" for n in range(PICTURES) if n != OF}


def vectors_of(store: Path) -> dict[str, Any]:
    """The unit vectors by image."""
    table = open_table(Store(store), "embeddings.copy").read(["image_id", "vector"])
    table = table.filter(comparable_rows(table.column("vector")))
    rows = vector_matrix(table.column("vector")).astype(np.float64)
    return dict(zip(table.column("image_id").to_pylist(), rows, strict=True))


def test_copies_that_hashes_miss_go_and_other_pictures_stay(
    base: tuple[dict[str, Any], Path], store: Path, example: Path, tmp_path: Path
) -> None:
    before, vectors = shown(store), vectors_of(store)
    by_hash = copied(store, tmp_path / "by_hash")
    assert forget(by_hash, likes=[example], hash_only=True).copies == ()
    missed = {"mirrored-crop", "turned"}
    assert missed < shown(by_hash).keys()

    (found,) = forget(store, likes=[example]).copies
    gone = before.keys() - others()
    assert found.images == {before[key]["image_id"] for key in gone}
    assert shown(store).keys() == others()
    mine = np.frombuffer(bytes.fromhex(found.descriptor.vector), "<f2").astype(np.float64)
    near = {key: vectors[before[key]["image_id"]] @ mine for key in others()}
    assert max(near.values()) < found.descriptor.at_least
    assert found.others == len(others())

    run_recipe(base[0], store, until="dedup")
    gc(store)
    assert shown(store) == {key: before[key] for key in others()}
    ids = ("image_id", "pair_id", "sha256", "url", "caption")
    assert holding(store, [before[key][name] for key in gone for name in ids]) == {}
    assert prove(Store(store)).holds


def test_the_tombstone_holds_a_descriptor_and_no_content(store: Path, example: Path) -> None:
    before = shown(store)
    forget(store, likes=[example])
    takedowns = read_takedowns(Store(store).storage)
    assert takedowns is not None
    (descriptor,) = takedowns.descriptors
    assert descriptor.encoder["architecture"] and len(descriptor.vector) == 192 * 4
    texts = [r[name] for r in before.values() for name in ("image_id", "url", "caption")]
    assert holding(store / "tombstones", [*texts, "mine.png", HOST]) == {}


@contextmanager
def in_this_process(*_: Any) -> Iterator[InProcess]:
    yield InProcess()


NIGHTLY = pytest.mark.nightly


@pytest.mark.parametrize(
    "launched", ["screen", pytest.param("ingest", marks=NIGHTLY), pytest.param(None, marks=NIGHTLY)]
)
def test_a_copy_of_a_later_crawl_is_left_out_as_soon_as_its_vector_is_known(
    store: Path,
    example: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    launched: str | None,
) -> None:
    forget(store, likes=[example])
    spec = build(tmp_path / "web")
    run_recipe(spec, store, until="dedup")
    gc(store)
    later = [row("copy", EDITS[LATER](drawn(OF))), row("new", drawn(PICTURES))]
    write_rows(tmp_path / "web" / "pool" / "b.parquet", later)
    if launched:
        monkeypatch.setattr(launch, "spark_workers", in_this_process)
        recipe = recipe_of(spec)
        whole = plan(recipe, until="dedup")
        if launched != "ingest":
            run_recipe(spec, store, until="fetch")
        steps = select_steps(whole, first=launched)
        options = launch.RunOptions(recompute=Recompute(force=True))
        results = launch.run_steps(steps, recipe, Store(store), Cluster(), options)
        is_forced = {result.step.name: result.reused == 0 for result in results}
        assert is_forced["screen"] and is_forced["fetch"] == (launched == "ingest")
        assert [record.state for record in read_runs(Store(store))][:2] == ["finished", "failed"]
    else:
        with pytest.raises(TakenDownError, match=r"1 pictures .* are copies"):
            run_recipe(spec, store, until="dedup")
        assert "copy" not in shown(store)
        assert Store(store).storage.files("open/drawings/images", recursive=True) == {}
        run_recipe(spec, store, until="dedup")
    assert shown(store).keys() == {*others(), "new"}
    # Whatever another run left that was killed meanwhile is searched before it is committed.
    takedowns = read_takedowns(Store(store).storage)
    assert takedowns is not None and takedowns.unsearched_since("fetch") is not None
    gc(store)
    assert prove(Store(store)).holds
    _, did = run_recipe(spec, store, until="dedup")
    assert all(result.up_to_date for result in did.values())


def test_a_vector_alone_makes_a_copy_from_a_cosine_that_is_given(
    store: Path, example: Path
) -> None:
    before, vectors = shown(store), vectors_of(store)
    (found,) = forget(store, likes=[example], cosine=0.4).copies
    mine = np.frombuffer(bytes.fromhex(found.descriptor.vector), "<f2").astype(np.float64)
    near = {image for image, vector in vectors.items() if vector @ mine >= 0.4}
    assert found.images == near
    assert (found.compared, found.descriptor.at_least) == (0, 0.4)
    assert {row["image_id"] for row in shown(store).values()} == {
        row["image_id"] for row in before.values()
    } - near


def test_vectors_alone_show_what_is_left(store: Path, example: Path) -> None:
    """Nothing but the descriptor tells these pictures, as those that an interrupted run embedded."""
    opened = Store(store)
    (found,) = find_copies(opened, example.read_bytes())
    open_takedowns(opened.storage)
    tombstone = Tombstone("20260101T000000-a", "now", "x", "y", descriptors=(found.descriptor,))
    put_tombstone(opened.storage, tombstone)
    put_hits(opened.storage, Hits("20260101T000001-b", (tombstone.name,)))
    left = prove(opened).left
    assert left and all(path.startswith("tables/embeddings.copy/") for path in left)
    gc(store)
    assert f"p{OF}" not in shown(store)
    assert others() < shown(store).keys()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--cosine", "0.9"), "say how pictures are compared"),
        (("--hash-only", "--host", "a.example"), "say how pictures are compared"),
        (("--like", "FILE", "--hash-only", "--cosine", "0.9"), "say how pictures are compared"),
        (("--host", "*.a.example"), "stands for its subdomains"),
    ],
)
def test_options_that_cannot_take_effect_are_refused(
    store: Path, example: Path, words: Sequence[str], text: str
) -> None:
    given = [str(example) if word == "FILE" else word for word in words]
    if "--host" not in given and "--like" not in given:
        given += ["--url", "https://a.example/1"]
    by = ("--by", "the owner", "--reason", "request 17")
    done = CliRunner().invoke(app, ["forget", "--store", str(store), *given, *by])
    assert isinstance(done.exception, RecipeError) and text in str(done.exception)
    assert read_takedowns(Store(store).storage) is None


def test_the_command_says_what_it_found(store: Path, example: Path) -> None:
    words = ["--store", str(store), "--like", str(example), "--by", "x", "--reason", "y"]
    done = CliRunner().invoke(app, ["forget", *words, "--json"])
    assert done.exit_code == 0, done.output
    (copies,) = json.loads(done.stdout)["copies"]
    assert copies["encoder"] == "copy"
    assert (copies["images"], copies["others"]) == (len(COPIES) + 1, len(others()))
    assert copies["compared"] >= copies["images"]


def test_an_encoder_that_cannot_be_loaded_is_an_error_with_a_way_out(
    store: Path, example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RecipeError("No weights file 'gone.pt'.")

    monkeypatch.setattr("curation.media.encoders.encoder.load_encoder", fail)
    with pytest.raises(RecipeError, match=r"gone\.pt(.|\n)*--hash-only"):
        forget(store, likes=[example])
    assert read_takedowns(Store(store).storage) is None
    forget(store, likes=[example], hash_only=True)
