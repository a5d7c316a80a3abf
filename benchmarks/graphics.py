"""Graphics in other colours or with other symbols: how many are taken for copies, and what is found.

    python -m benchmarks.graphics
    python -m benchmarks.graphics --pairs 500 --seeds 2 3 4

Pairs of drawn graphics (`benchmarks/drawings`) are merged if the default recipe would link them: their
hashes or their vectors of `copy_micro` are near, and their pixels agree. The first table counts them
with the bounds of the default recipe, and without those on colours and details, by which grey pictures
alone decide. The second table has the share of copies that are linked: of one graphic of each pair
after the usual edits, and of photographs recoloured as a whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.command import parse, parser_of
from benchmarks.drawings.edits import EDITS, RECOLOURINGS, encoded
from benchmarks.drawings.pairs import pairs
from benchmarks.machine import conditions
from curation.inspect.audit.verify_pairs import compare_pictures, load_picture, within_bounds
from curation.media.encoders.encoder import Encoder, load_encoder
from curation.media.encoders.forward import encode
from curation.media.encoders.params import EncoderSpec
from curation.media.pictures.decode import decode
from curation.media.pictures.hashes import decode_grey, perceptual_hash
from curation.stages.dedup.params import DedupParams, Verify
from curation.stages.verify.compare import Agreement
from quickstart.photographs import PHOTOGRAPHS, load

BATCH = 64
IN_GREY = Verify(colour=1000, detail_colour=1000, detail_shape=-1)
"""Bounds that look at no colour but the hue of most pixels."""


@dataclass(frozen=True)
class Compared:
    """Two images and what is measured of them.

    Attributes:
        set: to which row of the table they belong.
        kind: what they show.
        change: what was done to one of them.
        files: both, encoded.
        agreement: of their pixels.
    """

    set: str
    kind: str
    change: str
    files: tuple[bytes, bytes]
    agreement: Agreement | None


def compared(name: str, kind: str, change: str, files: tuple[bytes, bytes]) -> Compared:
    """Compare the pixels of two images."""
    left, right = map(load_picture, files)
    return Compared(name, kind, change, files, compare_pictures(left, right))


def look_alikes(count: int, seed: int) -> Iterator[Compared]:
    """Yield the pairs of a seed."""
    for pair in pairs(count, seed):
        files = encoded(pair.left, 95), encoded(pair.right, 95)
        yield compared(f"seed {seed}", pair.kind, pair.change, files)


def copies(count: int, seed: int) -> Iterator[Compared]:
    """Yield graphics with an edited copy, all edits in turn, and recoloured photographs."""
    names = list(EDITS)
    for number, pair in enumerate(pairs(count, seed)):
        edit = names[number % len(names)]
        files = encoded(pair.left, 95), EDITS[edit](pair.left)
        yield compared("graphics", pair.kind, edit, files)
    for photograph in PHOTOGRAPHS[: max(1, count // 20)]:
        image = load(photograph).convert("RGB")
        image.thumbnail((400, 400))
        for name, recolour in RECOLOURINGS.items():
            files = encoded(image, 95), encoded(recolour(image))
            yield compared("photographs", photograph.name, name, files)


def table_of(rows: list[Compared], encoder: Encoder) -> pd.DataFrame:
    """Return for each pair whether it is near, and whether it agrees in colour and in grey."""
    files = [file for row in rows for file in row.files]
    near = _cosine(files, encoder) >= 0.75
    params = DedupParams()
    assert params.perceptual
    near |= _hash_distance(files) <= params.perceptual.max_distance
    agreements = [row.agreement for row in rows]
    return pd.DataFrame(
        {
            "set": [row.set for row in rows],
            "kind": [row.kind for row in rows],
            "change": [row.change for row in rows],
            "in colour": near & within_bounds(agreements, Verify()),
            "in grey": near & within_bounds(agreements, IN_GREY),
        }
    )


def _cosine(files: list[bytes], encoder: Encoder) -> np.ndarray:
    parts = []
    for start in range(0, len(files), BATCH):
        batch = [decode(file) for file in files[start : start + BATCH]]
        parts.append(encode(encoder, batch, BATCH, "cpu")[0].astype(np.float32))
    vectors = np.concatenate(parts)
    return np.asarray((vectors[::2] * vectors[1::2]).sum(axis=1))


def _hash_distance(files: list[bytes]) -> np.ndarray:
    """Return the bits by which the hashes of each pair differ; 256 if one has none."""
    greys = [decode_grey(file) for file in files]
    hashes = [None if grey is None else perceptual_hash(grey) for grey in greys]
    return np.array(
        [
            (int.from_bytes(a) ^ int.from_bytes(b)).bit_count() if a and b else 256
            for a, b in zip(hashes[::2], hashes[1::2], strict=True)
        ]
    )


def print_shares(table: pd.DataFrame, by: str) -> None:
    """Print the number of pairs and the shares of each group as Markdown."""
    grouped = table.groupby(by, sort=False)
    print(f"\n| {by} | pairs | in grey | in colour |\n|---|---|---|---|")
    for name, group in grouped:
        shares = " | ".join(f"{group[column].mean():.3f}" for column in ("in grey", "in colour"))
        print(f"| {name} | {len(group)} | {shares} |", flush=True)


def main() -> None:
    """Print all tables."""
    parser = parser_of(__doc__)
    parser.add_argument("--pairs", type=int, default=500, help="pairs of each seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4])
    options = parse(parser, {"pairs": 32, "seeds": [1]})
    print(conditions())
    encoder = load_encoder(EncoderSpec(model="copy_micro"), "cpu")
    started = time.monotonic()
    alike = [row for seed in options.seeds for row in look_alikes(options.pairs, seed)]
    seconds = time.monotonic() - started
    table = table_of(alike, encoder)
    print(
        f"{len(alike)} pairs drawn and compared in {seconds:.0f} s; the part of them that is merged:"
    )
    for by in ("set", "kind", "change"):
        print_shares(table, by)
    merged = table[table["in colour"]]
    print("\nmerged in colour:", merged[["set", "kind", "change"]].to_numpy().tolist())
    print("\nThe part of copies that is linked:")
    table = table_of(list(copies(options.pairs, options.seeds[-1])), encoder)
    for _, group in table.groupby("set", sort=False):
        print_shares(group, "change")
    print_shares(table, "set")


if __name__ == "__main__":
    main()
