"""Recipes whose sources lack something: pixels, captions, URLs, seeds."""

from __future__ import annotations

import hashlib
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curation
from curation.engine.cluster import load_cluster
from curation.errors import CurationError, RecipeError
from curation.flow import STAGES, plan
from curation.inspect.report.build import write_report
from curation.inspect.search import Search
from curation.launch import run_steps
from curation.recipe import parse_recipe
from curation.recipe.pixels import left_out
from curation.store.store import Store
from tests.takedown.helpers import forget
from tests.vectors.helpers import (
    rows,
    run,
    source,
    table,
    without_pixels,
    write_list,
    write_vectors,
)

GROUPS, TARGET = 4, 9
ARMS = [
    {"name": "near", "seeds": "birds", "strategy": "sample", "k": 4},
    {"name": "cells", "seeds": "birds", "strategy": "cluster", "per_cluster": 6, "more_than": 0},
    {"name": "balanced", "strategy": "hierarchical", "target": 12},
]


def write_source(folder: Path, name: str, vectors: np.ndarray, **columns: list[Any]) -> None:
    write_list(folder / f"{name}.parquet", [f"{name}{n}" for n in range(len(vectors))], **columns)
    np.save(folder / f"{name}.npy", vectors)


def import_of(folder: Path, *names: str) -> dict[str, Any]:
    return {"import": {n: str(folder / f"{n}.npy") for n in names}, "ids": {"join": "rows"}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on vectors alone: 40 images in 4 groups, 6 near copies, 2 copies of held-out ones."""
    folder = tmp_path_factory.mktemp("alone")
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(GROUPS, 16))
    pool = centres[np.arange(40) % GROUPS] + 0.6 * rng.normal(size=(40, 16))
    copies = pool[:6] + 0.01 * rng.normal(size=(6, 16))
    held_out = pool[38:] + 0.01 * rng.normal(size=(2, 16))
    captions = [f"a picture of the group {n % GROUPS}" for n in range(46)]
    write_source(folder, "web", np.concatenate([pool, copies]), text=captions)
    write_source(folder, "birds", centres[:2] + 0.2 * rng.normal(size=(2, 16)))
    write_source(folder, "bench", held_out)
    recipe = without_pixels(
        import_of(folder, "web", "birds", "bench"),
        source(folder / "web.parquet", key="key", caption="text"),
        source(folder / "birds.parquet", "birds", "seed"),
        source(folder / "bench.parquet", "bench", "held_out"),
        dedup={"near": {"encoder": "semantic", "at_least": 0.98}, "held_out": {"at_least": 0.98}},
        select={"caption_words": {"at_least": 2}},
        cluster={"levels": [GROUPS]},
        retrieve=ARMS,
        balance={"target": TARGET},
    )
    run(folder / "store", recipe)
    write_report(parse_recipe(recipe), Store(folder / "store"))
    return folder / "store"


def test_copies_and_contamination_are_found_by_vectors_alone(finished: Path) -> None:
    keys = {row["pair_id"]: row["source_key"] for row in rows(finished, "images")}
    copies = {keys[row["pair_id"]]: row for row in rows(finished, "copies")}
    # Of equal captions and unknown sizes, the smaller id stands for both.
    twins = [{f"web{n}", f"web{40 + n}"} for n in range(6)]
    dropped = {key for key, row in copies.items() if row["method"] == "near"}
    assert all(len(twin & dropped) == 1 for twin in twins) and len(dropped) == len(twins)
    contaminated = {key for key, row in copies.items() if row["contaminated_by"]}
    assert contaminated == {"web38", "web39"}


def test_the_dataset_has_what_the_arms_claim_and_no_pixels(finished: Path) -> None:
    dataset = rows(finished, "dataset")
    assert len(dataset) == TARGET
    assert {claim["arm"] for row in dataset for claim in row["claims"]} == {
        "near",
        "cells",
        "balanced",
    }
    group_of = {f"birds{n}": n for n in range(2)}
    birds = {row["image_id"]: row["source_key"] for row in rows(finished, "images")}
    for row in dataset:
        assert row["width"] is None and row["sha256"] is None and "image" not in row
        for claim in row["claims"]:
            if claim["arm"] == "near":
                group = group_of[birds[claim["seed_image_id"]]]
                assert (
                    int(row["source_key"].removeprefix("web")) % GROUPS == group
                    or (int(row["source_key"].removeprefix("web")) - 40) % GROUPS == group
                )


def test_captions_are_scored_and_pictures_are_not(finished: Path) -> None:
    scored = {row["pair_id"]: row for row in rows(finished, "scores")}
    for row in rows(finished, "images"):
        score = scored[row["pair_id"]]
        assert score["caption_words"] == (6 if row["source"] == "web" else 0)
        assert score["phash"] is None and score["pixel_id"] is None
        assert not {"min_side", "sharpness"} & score.keys()


def test_the_report_is_written_without_pictures(finished: Path) -> None:
    (page,) = finished.glob("reports/*/report.html")
    html = page.read_text()
    assert "data:image/jpeg" not in html and "a picture of the group" in html


def test_urls_are_read_and_none_is_requested(tmp_path: Path) -> None:
    """Rows keep the order of the list; an image is its checksum, or else its URL."""
    urls = [f"https://{'ab'[n % 2]}.example/{n}.jpg" for n in range(12)]
    urls[5], urls[7], urls[9] = "ftp://a.example/x", urls[2], ""
    checksums = [hashlib.sha256(b"9").hexdigest() if n in (3, 4) else None for n in range(12)]
    vectors = np.random.default_rng(0).normal(size=(12, 4))
    write_source(tmp_path, "web", vectors, url=urls, sha256=checksums)
    write_source(tmp_path, "seeds", vectors[:1], url=urls[:1])
    recipe = without_pixels(
        import_of(tmp_path, "web", "seeds"),
        source(tmp_path / "web.parquet", key="key", url="url", sha256="sha256"),
        source(tmp_path / "seeds.parquet", "seeds", "seed", key="key", url="url"),
    )
    run(tmp_path / "store", recipe, until="dedup")
    images = rows(tmp_path / "store", "images")
    assert [row["source_key"] for row in images[:12]] == [f"web{n}" for n in range(12)]
    assert images[12]["image_id"] == images[0]["image_id"], "the same URL in two sources"
    assert images[3]["image_id"] == images[4]["image_id"] == str(checksums[3])[:32]
    reasons = {n: row["reason"] for n, row in enumerate(images) if row["status"] != "ok"}
    assert reasons == {5: "bad_scheme", 7: "duplicate_url", 9: "no_image"}
    copies = {row["pair_id"]: row["method"] for row in rows(tmp_path / "store", "copies")}
    assert sorted(copies[images[n]["pair_id"]] for n in (3, 4)) == ["exact", "representative"]


def test_rows_that_nothing_tells_apart_stay(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(4, 4))
    write_source(tmp_path, "web", vectors, text=["the same"] * 4)
    recipe = without_pixels(
        import_of(tmp_path, "web"), source(tmp_path / "web.parquet", caption="text")
    )
    run(tmp_path / "store", recipe, until="embed")
    assert len({row["pair_id"] for row in rows(tmp_path / "store", "images")}) == 4
    assert table(tmp_path / "store", "embeddings.semantic").manifest.counts == {"all": {"ok": 4}}


def test_a_run_without_pixels_gives_nothing_to_one_that_fetches(tmp_path: Path) -> None:
    """Rows without pixels must not pass for fetched ones."""
    from tests.e2e.small import encoded, picture

    rng = np.random.default_rng(0)
    files = [encoded(picture(n, rng, side=64)) for n in range(3)]
    write_source(tmp_path, "web", rng.normal(size=(3, 4)), image=files)
    place = source(tmp_path / "web.parquet", key="key", image="image")
    recipe = without_pixels(import_of(tmp_path, "web"), place)
    run(tmp_path / "store", recipe, until="fetch")
    run(tmp_path / "store", {**recipe, "fetch": {}, "dedup": {"near": None}}, until="fetch")
    fetched = rows(tmp_path / "store", "images")
    assert [row["sha256"] for row in fetched] == [hashlib.sha256(f).hexdigest() for f in files]
    assert all(row["image"] for row in fetched)


def test_rows_without_pixels_are_taken_down(tmp_path: Path) -> None:
    """By URL, by the checksum that the list states, and by the id in the tables."""
    urls = [f"https://a.example/{n}.jpg" for n in range(6)]
    checksums = [hashlib.sha256(bytes([n])).hexdigest() if n == 2 else None for n in range(6)]
    write_source(tmp_path, "web", np.eye(6), url=urls, sha256=checksums)
    columns = {"key": "key", "url": "url", "sha256": "sha256"}
    recipe = without_pixels(import_of(tmp_path, "web"), source(tmp_path / "web.parquet", **columns))
    run(tmp_path / "store", recipe, until="dedup")
    image_id = rows(tmp_path / "store", "images")[4]["image_id"]
    forget(tmp_path / "store", urls=(urls[0],), images=(str(checksums[2]), image_id))
    run(tmp_path / "store", recipe, until="dedup")
    reasons = [row["reason"] for row in rows(tmp_path / "store", "images")]
    assert reasons == ["forgotten" if n in (0, 2, 4) else None for n in range(6)]
    vectors = rows(tmp_path / "store", "embeddings.semantic")
    assert [row["vector"] is None for row in vectors] == [n in (0, 2, 4) for n in range(6)]


def problems(spec: dict[str, Any]) -> str:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(spec)
    return str(caught.value)


IMPORT = {"import": "v.npy", "ids": {"join": "rows"}}


@pytest.mark.parametrize(
    ("blocks", "problem"),
    [
        ({"dedup": {"verify": {}}}, "dedup.verify: it needs pixels"),
        ({"dedup": {"perceptual": {}}}, "dedup.perceptual: it needs pixels"),
        ({"dedup": {"pixels": True}}, "dedup.pixels: it needs pixels"),
        ({"screen": {"filters": ["min_side"]}}, "min_side needs pixels"),
        ({"assemble": {"pixels": True}}, "assemble.pixels: it needs pixels"),
        ({"embed": {"encoders": {"a": {"model": "vit_micro"}}}}, "a: vit_micro embeds images"),
        ({"fetch": {"pixels": "none", "quality": 80}}, "fetch: quality has no effect"),
        ({"select": {"min_side": {"at_least": 9}}}, "select.min_side: unknown score"),
        ({"fetch": {}}, "source 'web': `columns` must map at least one of url, image, path"),
    ],
)
def test_what_needs_pixels_is_refused(blocks: dict[str, Any], problem: str) -> None:
    spec = without_pixels(IMPORT, source(Path("list.parquet")), **blocks)
    assert problem in problems(spec)


@pytest.mark.parametrize(
    ("encoder", "problem"),
    [
        ({"import": "v.npy"}, "`import` needs `ids`"),
        ({}, "`model` is missing"),
        ({**IMPORT, "model": "vit_micro"}, "computes its vectors"),
        ({**IMPORT, "input_size": 224}, "an import takes no input_size"),
        ({**IMPORT, "of": "caption"}, "imported vectors are those of images"),
        ({"import": "v.npy", "ids": {"join": "key"}}, "needs the ids"),
        ({"import": "v.npy", "ids": {"join": "rows", "column": "k"}}, "there are no ids"),
        (
            {"import": "v.npy", "ids": {"join": "key", "file": {"web": "k"}}},
            "must both be one path",
        ),
        ({"import": {"web": "v", "x": "w"}, "ids": {"join": "rows"}}, "no source 'x'"),
        ({"import": {}, "ids": {"join": "rows"}}, "names no path"),
    ],
)
def test_an_import_says_how_it_is_joined(encoder: dict[str, Any], problem: str) -> None:
    assert problem in problems(without_pixels(encoder, source(Path("list.parquet"))))


def test_joins_that_the_sources_cannot_have_are_refused() -> None:
    web = source(Path("list.parquet"), url="url")
    keys = {"import": "v.npy", "ids": {"join": "key", "file": "k.npy"}}
    assert "source 'web' maps no key" in problems(without_pixels(keys, web))
    fetched = {**without_pixels(IMPORT, web), "fetch": {}, "dedup": {"near": None}}
    assert "grouped by host" in problems(fetched)
    two = without_pixels(IMPORT, web, {**web, "name": "birds", "role": "seed"})
    assert "write a path for each source: import: {web: PATH, birds: PATH}" in problems(two)


def test_what_is_left_out_is_said() -> None:
    alone = parse_recipe(without_pixels(IMPORT, source(Path("list.parquet"))))
    sentences = " ".join(left_out(alone))
    for part in (
        "No pixels are fetched",
        "near: {encoder: semantic",
        "captions",
        "seed",
        "held_out",
    ):
        assert part in sentences
    assert alone.dedup.verify is None and alone.dedup.near is None
    web = {"name": "web", "role": "pool", "format": "laion", "path": "x"}
    whole = [web, {**web, "name": "s", "role": "seed"}, {**web, "name": "h", "role": "held_out"}]
    assert left_out(parse_recipe({"name": "all", "sources": whole})) == []


def test_little_work_on_vectors_starts_no_spark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = np.random.default_rng(0).normal(size=(30, 8))
    write_source(tmp_path, "web", vectors)
    place = source(tmp_path / "web.parquet", key="key")
    recipe = parse_recipe(
        without_pixels(import_of(tmp_path, "web"), place, cluster={"levels": [3]})
    )

    def start(*_: object) -> None:
        raise AssertionError("Spark was started")

    monkeypatch.setattr("curation.engine.spark_workers.open_context", start)
    patient = load_cluster("local").model_copy(update={"seconds_without_spark": 600.0})
    results = run_steps(plan(recipe), recipe, Store(tmp_path / "store"), patient)
    assert results[-1].step.name == "assemble" and results[-1].rows == 30
    decoding = {step.name for step in plan(recipe) if step.stage.decodes}
    assert not decoding and {s.name for s in STAGES.values() if s.decodes} > {"fetch", "embed"}


def test_why_says_that_imported_vectors_know_no_model(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "picture.jpg").write_bytes(b"any bytes")
    answer = curation.open(finished).why(tmp_path / "picture.jpg")
    assert (answer.kind, answer.nearest) == (None, [])
    assert "Its vectors were imported" in answer.note and "--vectors" in answer.note


def test_a_file_whose_bytes_the_list_states_has_an_imported_vector(tmp_path: Path) -> None:
    """No model is needed to search with a picture that has a vector."""
    contents = [f"picture {n}".encode() for n in range(12)]
    sums = [sha256(content).hexdigest() for content in contents]
    vectors = np.random.default_rng(0).normal(size=(12, 8))
    write_list(tmp_path / "list.parquet", [f"k{n}" for n in range(12)], sha256=sums)
    encoder = write_vectors(tmp_path / "v", "npy", vectors, [f"k{n}" for n in range(12)])
    encoder["ids"]["join"] = "key"
    place = source(tmp_path / "list.parquet", key="key", sha256="sha256")
    spec = without_pixels(encoder, place, cluster={"levels": [2]})
    run(tmp_path / "store", spec)
    searched = Search(parse_recipe(spec), Store(tmp_path / "store"))
    files = [tmp_path / f"{n}.jpg" for n in range(12)]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    nearest, _ = searched.nearest(searched.vectors_of_files(files), 1)
    assert nearest["image_id"].to_pylist() == [digest[:32] for digest in sums]
    files[3].write_bytes(b"another picture")
    with pytest.raises(CurationError, match="imported"):
        searched.vectors_of_files(files)
