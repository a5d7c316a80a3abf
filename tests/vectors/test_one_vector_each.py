"""Rows of one image that come with different imported vectors, or without: the image has always one."""

from __future__ import annotations

import logging
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from curation.media.vectors.vector_set import as_stored

from .helpers import rows, run, source, table, without_pixels, write_list, write_vectors

DIM = 4
COLUMNS = {"key": "key", "url": "url", "caption": "caption"}
Recipe = dict[str, Any]


class World:
    """Two sources of several files, in which images and vectors repeat."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.join = self.random.choice(["key", "rows"])
        self.form = self.random.choice(["npy", "npy_shards", "list", "parquet_shards"])
        self.files: dict[str, list[list[tuple[str, str]]]] = {"web": [], "birds": []}
        self.vectors: dict[str, np.ndarray] = {}
        self.missing: set[str] = set()

    def add_file(self, name: str) -> None:
        """Append a file of rows to a source."""
        place = sum(map(len, self.files[name]))
        urls = [f"https://example.com/{self.random.randrange(25)}.jpg" for _ in range(15)]
        some = [(f"{name}{place + n}", url) for n, url in enumerate(urls)]
        self.files[name].append(some)
        number = len(self.files[name])
        keys, urls = map(list, zip(*some, strict=True))
        captions = [f"a caption, of {self.random.randrange(5)}" for _ in keys]
        write_list(self.folder / name / f"{number:03d}.parquet", keys, url=urls, caption=captions)

    def draw(self) -> None:
        """Draw the vectors: many are equal, some cannot be used, some are missing."""
        choice = self.numbers.integers(-3, 3, size=(6, DIM)).astype(np.float32)
        choice[0], choice[1, 2] = 0, np.nan
        for name, files in self.files.items():
            self.vectors[name] = choice[self.numbers.integers(6, size=sum(map(len, files)))]
        keys = [key for files in self.files.values() for file in files for key, _ in file]
        self.missing = set(self.random.sample(keys, len(keys) // 4 if self.join == "key" else 0))

    def recipe(self) -> Recipe:
        """A recipe that imports them."""
        paths: dict[str, str] = {}
        ids: dict[str, Any] = {"join": self.join}
        for name, files in self.files.items():
            keys = [key for file in files for key, _ in file]
            where = self.folder / f"v-{name}-{self.random.random()}"
            if self.join == "rows":
                spec = write_vectors(where, self.form, self.vectors[name], None)
            else:
                some = [n for n, key in enumerate(keys) if key not in self.missing]
                vectors = self.vectors[name][some]
                spec = write_vectors(where, self.form, vectors, [keys[n] for n in some])
            paths[name] = spec["import"]
            for what, value in spec["ids"].items():
                if what == "file":
                    ids.setdefault(what, {})[name] = value
                else:
                    ids[what] = value
        sources = [
            source(self.folder / name, name, role, **COLUMNS)
            for name, role in (("web", "pool"), ("birds", "seed"))
        ]
        return without_pixels({"import": paths, "ids": ids}, *sources)

    def expected(self, store: Path) -> list[tuple[bytes | None, str | None]]:
        """What each row of the store must have."""
        stored: dict[str, Any] = {}
        for name, vectors in self.vectors.items():
            unit, valid = as_stored(vectors)
            for number, vector in enumerate(unit):
                key = f"{name}{number}"
                is_usable = valid[number] and key not in self.missing
                stored[key] = vector.tobytes() if is_usable else None
        images = rows(store, "images")
        of_image: dict[str, tuple[str, bytes]] = {}
        for row in images:
            vector = stored[row["source_key"]]
            image, pair = row["image_id"], row["pair_id"]
            if (
                row["status"] == "ok"
                and vector is not None
                and (image not in of_image or pair < of_image[image][0])
            ):
                of_image[image] = pair, vector

        def of_row(row: dict[str, Any]) -> tuple[bytes | None, str | None]:
            if row["status"] != "ok":
                return None, "no_pixels"
            if row["image_id"] not in of_image:
                return None, "missing" if row["source_key"] in self.missing else "not_finite"
            return of_image[row["image_id"]][1], None

        return [of_row(row) for row in images]


@pytest.mark.parametrize("seed", range(12))
def test_an_image_has_the_vector_of_the_row_with_the_smallest_pair_id(
    tmp_path: Path, seed: int
) -> None:
    """After each new file, in a store that has the rows of before."""
    world = World(tmp_path, seed)
    world.add_file("web")
    world.add_file("birds")
    for number in range(3):
        world.draw()
        recipe, store = world.recipe(), tmp_path / "store"
        results = run(store, recipe, until="embed")
        embedded = rows(store, "embeddings.semantic")
        expected = world.expected(store)
        assert [(row["vector"], row["reason"]) for row in embedded] == expected
        assert number == 0 or results["embed"].computed > 0
        assert run(store, recipe, until="embed")["embed"].up_to_date
        world.add_file(world.random.choice(["web", "birds"]))


def test_a_row_of_another_source_counts_in_the_memo(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The files of vectors, and the fragment, stay the same; a row of the seeds is gone."""
    url = ["https://example.com/a.jpg"]
    sources, paths = [], {}
    for number, (name, role) in enumerate((("web", "pool"), ("birds", "seed"), ("cats", "seed"))):
        write_list(tmp_path / f"{name}.parquet", ["k"], url=url, caption=["a cat"])
        sources.append(source(tmp_path / f"{name}.parquet", name, role, **COLUMNS))
        np.save(tmp_path / f"{name}.npy", np.eye(3, DIM, dtype=np.float32)[number : number + 1])
        paths[name] = str(tmp_path / f"{name}.npy")
    recipe = without_pixels({"import": paths, "ids": {"join": "rows"}}, *sources)
    store = tmp_path / "store"
    with caplog.at_level(logging.WARNING):
        run(store, recipe, until="embed")
    assert "2 rows of 1 images come with another vector" in caplog.text
    pairs = {row["source"]: row["pair_id"] for row in rows(store, "images")}
    by_pair = sorted(pairs, key=lambda name: pairs[name])
    vectors = {row["vector"] for row in rows(store, "embeddings.semantic")}
    assert vectors == {np.load(paths[by_pair[0]])[0].astype(np.float16).tobytes()}
    before = table(store, "embeddings.semantic").fragments
    assert len(before) == 3

    gone, first = by_pair[:2]
    assert gone != "web", "the pool stays, so that its fragment is the same"
    recipe["sources"] = [s for s in sources if s["name"] != gone]
    del recipe["embed"]["encoders"]["semantic"]["import"][gone]
    run(store, recipe, until="embed")
    vectors = {row["vector"] for row in rows(store, "embeddings.semantic")}
    assert vectors == {np.load(paths[first])[0].astype(np.float16).tobytes()}


def test_an_image_is_not_lost_where_the_row_that_represents_it_has_no_vector(
    tmp_path: Path,
) -> None:
    """Vectors are often made of the different images only, and a copy has the longer caption."""
    captions = ["a cat", "a cat on a mat", "a dog"]
    write_list(
        tmp_path / "web.parquet",
        ["cat", "copy", "dog"],
        sha256=["1" * 64, "1" * 64, "2" * 64],
        caption=captions,
    )
    vectors = np.eye(2, DIM, dtype=np.float32)
    spec = write_vectors(tmp_path / "vectors", "npy", vectors, ["cat", "dog"])
    spec["ids"]["join"] = "key"
    columns = {"key": "key", "sha256": "sha256", "caption": "caption"}
    recipe = without_pixels(spec, source(tmp_path / "web.parquet", **columns))
    run(tmp_path / "store", recipe, until="select")
    reasons = [row["reason"] for row in rows(tmp_path / "store", "eligible")]
    assert reasons == ["copy_exact", None, None]
