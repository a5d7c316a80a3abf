"""Copies that `curation forget --like` finds on a small real web with hidden truth, and what else.

    python -m benchmarks.forget_like --shared ../shared --store data/forget-like

The pool holds the planted copies, look-alikes and other pictures of web_mini, embedded by `copy_micro`.
For pictures with planted copies it counts the copies and the other pictures that are found by the
perceptual hash, and by the copy descriptor with pixels. Then half of the pool stands for what is
stored, and the other half for later crawls: which of its copies reach the cosine of the tombstone, and
how many other pictures. Nothing is taken down.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.command import folder_or_temporary, parse, parser_of, shared_folder
from benchmarks.copies import STRENGTHS, Truth, spec_of
from benchmarks.machine import conditions
from curation.algorithms.arrays.vectors import vector_matrix
from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.flow import plan
from curation.media.pictures.apart import decode_apart
from curation.media.pictures.likeness import is_near, likeness
from curation.recipe import parse_recipe
from curation.runner.step import run_step
from curation.runner.takedown.copies import FoundCopies, find_copies
from curation.store.store import Store

WITHIN = 24
"""Bits of the perceptual hash, the default of the command."""


class Pool(NamedTuple):
    """The pool by its ids.

    Attributes:
        files: stored pictures.
        images: image ids.
        vectors: unit vectors.
    """

    files: Mapping[str, bytes]
    images: Mapping[str, str]
    vectors: Mapping[str, npt.NDArray[np.float64]]


def build(shared: Path, folder: Path, truth: Truth, others: int) -> tuple[Store, Pool]:
    """Run a recipe with a copy descriptor on a part of the pool; return the store and its rows."""
    # The run itself need not compare pixels: the command does.
    spec = spec_of(shared, folder / "lists", {"perceptual": None, "verify": {"k": 1}})
    spec["screen"] = {"filters": ["min_side"]}
    spec["embed"] = {"encoders": {"copy": {"model": "copy_micro"}}}
    cut(folder / "lists" / "pool.parquet", truth, others)
    store = Store(folder / "store")
    for step in plan(parse_recipe(spec), until="dedup"):
        run_step(step, store, InProcess())
    images = open_table(store, "images").read(["source_key", "image_id", "image", "status"])
    images = images.filter(pc.equal(images.column("status"), "ok"))
    vectors = open_table(store, "embeddings.copy").read(["image_id", "vector"]).drop_null()
    rows = vector_matrix(vectors.column("vector")).astype(np.float64)
    by_image = dict(zip(vectors.column("image_id").to_pylist(), rows, strict=True))
    keys, ids, files = (images.column(n).to_pylist() for n in ("source_key", "image_id", "image"))
    named = dict(zip(keys, ids, strict=True))
    return store, Pool(
        dict(zip(keys, files, strict=True)), named, {k: by_image[i] for k, i in named.items()}
    )


def cut(path: Path, truth: Truth, others: int) -> None:
    """Keep the pictures of the truth, and some of the others in a seeded order."""
    pool, planted, alike = pq.read_table(path), truth.planted, truth.alike
    known = {*planted["dup_id"], *planted["orig_id"], *alike["id_a"], *alike["id_b"]}
    ids = pool.column("id").to_pylist()
    wanted = [*known, *sorted(set(ids) - known, key=draw)[:others]]
    pq.write_table(pool.filter(pc.is_in(pool.column("id"), pa.array(wanted))), path)


def draw(key: str) -> bytes:
    """Return a pseudo-random order of pictures."""
    return hashlib.sha256(key.encode()).digest()


class Counts:
    """Planted copies by strength, and other pictures, by the way in which they are looked for."""

    def __init__(self) -> None:
        self.planted: Counter[str] = Counter()
        self.found: Counter[tuple[str, str]] = Counter()
        self.others: Counter[str] = Counter()

    def add(self, way: str, found: set[str], copies: Mapping[str, str], family: set[str]) -> None:
        """Count what was found of the copies of a picture, by strength, and all else."""
        for key, strength in copies.items():
            self.found[way, strength] += key in found
        self.others[way] += len(found - family)

    def row(self, way: str) -> str:
        """Return a row of the table."""
        shares = (
            f"{self.found[way, s]} of {self.planted[s]}" if self.planted[s] else "–"
            for s in STRENGTHS
        )
        return f"| {way} | {' | '.join(shares)} | {self.others[way]} |"


def measure(store: Store, pool: Pool, truth: Truth, pictures: int) -> None:
    """Print what each way finds of the copies of some pictures, and of later ones."""
    counts, later, compared = Counts(), Counts(), 0
    is_stored = {key: draw(key)[0] < 128 for key in pool.images}
    pixels = ((key, decode_apart(file, 10**8)) for key, file in pool.files.items())
    looks = {key: likeness(image, WITHIN) for key, image in pixels}
    hashes = {key: bytes.fromhex(look.phash) for key, look in looks.items() if look is not None}
    originals = sorted(set(truth.planted["orig_id"]) & pool.files.keys())[:pictures]
    bounds = []
    for number, original in enumerate(originals):
        group = truth.planted[truth.planted["orig_id"] == original]
        copies = dict(zip(group["dup_id"], group["strength"], strict=True))
        family = {original, *copies} | {k for p in truth.known if original in p for k in p}
        counts.planted.update(copies.values())
        look = looks[original]
        near = {k for k, h in hashes.items() if look is not None and is_near(h, (look,))}
        counts.add("perceptual hash", near, copies, family)
        (found,) = find_copies(store, pool.files[original])
        compared += found.compared
        keys = {key for key, image in pool.images.items() if image in found.images}
        counts.add("descriptor and pixels", keys, copies, family)
        bounds.append(add_later(later, pool, found, (original, copies, family), is_stored))
        print(f"{number + 1} of {len(originals)}", end="\r", flush=True)
    print(
        f"\n{len(pool.files):,} pictures, {len(originals)} taken down, {compared:,} pairs compared"
    )
    print(f"\n| way | {' | '.join(STRENGTHS)} | other pictures |\n|{'---|' * (len(STRENGTHS) + 2)}")
    for way in ("perceptual hash", "descriptor and pixels"):
        print(counts.row(way))
    print(later.row("later, by the vector alone"))
    print(
        f"\nbound of cosines: median {np.median(bounds):.3f}; other pictures of the later half for "
        f"each picture {later.others['later, by the vector alone'] / len(originals):.3f}"
    )


def add_later(
    later: Counts,
    pool: Pool,
    found: FoundCopies,
    picture: tuple[str, Mapping[str, str], set[str]],
    is_stored: Mapping[str, Any],
) -> float:
    """Count which pictures of the later half reach the bound that the stored half gives."""
    original, copies, family = picture
    mine = np.frombuffer(bytes.fromhex(found.descriptor.vector), "<f2").astype(np.float64)
    cosines = {key: float(vector @ mine) for key, vector in pool.vectors.items()}
    strangers = [cosines[k] for k in cosines if is_stored[k] and pool.images[k] not in found.images]
    bound = max([0.75, *(c for c in strangers if c >= 0.75)])
    new = {key for key in cosines if not is_stored[key] and key != original}
    of_later = {key: strength for key, strength in copies.items() if key in new}
    later.planted.update(of_later.values())
    reach = {key for key in new if cosines[key] > bound or (bound == cosines[key] == 0.75)}
    later.add("later, by the vector alone", reach, of_later, family)
    return bound


def main() -> None:
    """Measure and print the tables as Markdown."""
    parser = parser_of(__doc__)
    parser.add_argument("--shared", type=Path, help="folder with the images and their truth")
    parser.add_argument("--store", type=Path, help="default: a temporary folder")
    parser.add_argument("--others", type=int, default=1000, help="pictures besides the truth")
    parser.add_argument("--pictures", type=int, default=60, help="pictures that are taken down")
    options = parse(parser, {"others": 20, "pictures": 3})
    shared = shared_folder(options)
    print(conditions())
    truth = Truth(shared, 8 if options.tiny else 1)
    with folder_or_temporary(options.store) as folder:
        store, pool = build(shared, folder, truth, options.others)
        measure(store, pool, truth, options.pictures)


if __name__ == "__main__":
    main()
