"""Finding copies beside imagededup and a plain self-join, and how the join by cells grows.

    pip install imagededup                         # not needed by the project
    python -m benchmarks.dedup peers --shared ../shared
    python -m benchmarks.dedup growth              # 10,000 to 3,000,000 vectors

`peers`: on the same pictures of a small real web, perceptual hashes made and all near pairs found by
imagededup (in two processes) and by us (in one, as a task does; its hash has 64 bits, ours 256), and
vectors of the same ViT; then on these vectors, and on more planted ones, its search of all pairs,
FAISS's flat index asked for the 64 nearest of each, and our exact join with the same k and with the
floor of the default recipe. `growth`: planted vectors (float16, 256), every tenth a copy of another
at a cosine of about 0.9; the stage's own join, exact where it chooses so and by cells from there on,
by a local Spark with a worker a core, each size in a process of its own. Recall: planted pairs found.
Peak memory: of the driver's Python process, and of the largest worker; Java's heap (1 GiB) on top.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.command import folder_or_temporary, has_peer, parse, parser_of, shared_folder
from benchmarks.machine import conditions
from benchmarks.measure import measured, workers
from benchmarks.planted import planted_vectors
from curation.algorithms.arrays.ids import from_ids
from curation.algorithms.arrays.vectors import vector_array
from curation.algorithms.knn import codebooks
from curation.algorithms.knn.blocks import block_join, nearest_others
from curation.algorithms.knn.cells import cell_join
from curation.algorithms.knn.choice import JoinChoice, choose_join
from curation.algorithms.knn.exact import build_base
from curation.algorithms.knn.hamming import range_search
from curation.algorithms.knn.ivf import Codebooks, sample_size, train_coarse
from curation.algorithms.knn.params import HammingParams
from curation.algorithms.knn.sample import read_sample, sample_fragments
from curation.engine.context import Context
from curation.engine.fragment import Fragment
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.store import Store
from curation.stages.dedup.params import Near

DIM, FRAGMENT, K = 256, 100_000, 64
FLOOR = 0.75
SOUGHT = (("pool", "pool"),)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds and result."""
    begun = time.perf_counter()
    result = call()
    return time.perf_counter() - begun, result


# -- beside others --------------------------------------------------------------------------------


def hashes_of(images: list[bytes]) -> np.ndarray:
    """Return our hashes (n, 32); flat pictures have none and are left out."""
    from curation.media.pictures.hashes import decode_grey, perceptual_hash

    found = [perceptual_hash(grey) for grey in map(decode_grey, images) if grey is not None]
    return np.stack([np.frombuffer(own, np.uint8) for own in found if own])


def hash_peers(images: list[bytes], folder: Path) -> None:
    """Print seconds for hashes and pairs of both."""
    from imagededup.methods import PHash

    ours, hashes = timed(lambda: hashes_of(images))
    join, _ = timed(lambda: range_search(hashes, hashes, HammingParams().max_distance))
    peer = PHash(verbose=False)
    theirs, encoded = timed(lambda: peer.encode_images(image_dir=folder, num_enc_workers=2))
    pairs, _ = timed(lambda: peer.find_duplicates(encoding_map=encoded, max_distance_threshold=6))
    print("| perceptual hash | imagededup, s | ours, s | faster by |\n|---|---|---|---|")
    print(f"| {len(images):,} hashes | {theirs:.1f} | {ours:.1f} | {theirs / ours:.2f} |")
    print(f"| all near pairs | {pairs:.2f} | {join:.2f} | {pairs / join:.1f} |", flush=True)


def encode_peers(images: list[bytes], folder: Path, weights: Path) -> tuple[Any, np.ndarray]:
    """Print seconds for the vectors of one ViT; return the peer and our vectors."""
    from imagededup.methods import CNN
    from imagededup.utils import CustomModel

    from curation.media.encoders.encoder import load_encoder
    from curation.media.encoders.forward import encode
    from curation.media.encoders.params import EncoderSpec
    from curation.media.pictures.decode import decode

    spec = EncoderSpec(model="timm/vit_tiny_patch16_224", weights=str(weights))
    encoder = load_encoder(spec, "cpu")

    def embedded() -> np.ndarray:
        parts = []
        for start in range(0, len(images), 64):
            pictures = [decode(image) for image in images[start : start + 64]]
            parts.append(encode(encoder, pictures, 64, "cpu")[0])
        return np.concatenate(parts)

    ours, vectors = timed(embedded)
    model = CustomModel(name="vit_tiny", model=encoder.model, transform=encoder.preprocess)
    peer = CNN(verbose=False, model_config=model)
    theirs, encoded = timed(lambda: peer.encode_images(image_dir=folder, num_enc_workers=0))
    unlike = [
        1 - float(own.astype(np.float32) @ (other / np.linalg.norm(other)))
        for own, (_, other) in zip(vectors, sorted(encoded.items()), strict=True)
    ]
    print("\n| one ViT, on the same pictures | imagededup, s | ours, s | faster by |")
    print("|---|---|---|---|")
    print(f"| {len(images):,} vectors | {theirs:.1f} | {ours:.1f} | {theirs / ours:.2f} |")
    print(f"\nlargest cosine distance between the two vectors of a picture: {max(unlike):.1e}")
    return peer, vectors


def vector_peers(vectors: np.ndarray, peer: Any) -> None:
    """Print seconds for all near pairs of the same vectors."""
    ids = np.char.mod("%032x", np.arange(len(vectors))).astype("S32")
    wide = vectors.astype(np.float32)
    options = {"k": K, "floor": FLOOR, "own_role": 1.0}
    base = build_base(vectors, ids)
    ours, found = timed(lambda: nearest_others(ids, vectors, base, options, "cpu"))
    whole, _ = timed(lambda: nearest_others(ids, vectors, base, options | {"floor": -1.0}, "cpu"))
    index = faiss.IndexFlatIP(wide.shape[1])
    index.add(wide)
    flat, (score, rows) = timed(lambda: index.search(wide, K + 1))
    same = (rows != np.arange(len(rows))[:, None]) & (score >= FLOOR)
    encoded = {name.decode(): vector for name, vector in zip(ids, wide, strict=True)}
    theirs, _ = timed(
        lambda: peer.find_duplicates(encoding_map=encoded, min_similarity_threshold=FLOOR)
    )
    print(f"\n| {len(vectors):,} × {wide.shape[1]} vectors | s | ours, s | faster by |")
    print("|---|---|---|---|")
    print(
        f"| imagededup, pairs from {FLOOR} on | {theirs:.2f} | {ours:.2f} | {theirs / ours:.1f} |"
    )
    print(f"| FAISS flat, k = {K} | {flat:.2f} | {whole:.2f} | {flat / whole:.2f} |")
    print(f"\npairs from {FLOOR} on: ours {len(found.query):,}, FAISS {int(same.sum()):,}")


def peers(shared: Path, rows: int, most: int | None) -> None:
    """Print all comparisons.

    Args:
        shared: the folder with real images.
        rows: how many planted vectors are searched.
        most: how many of the images are taken; None for all.
    """
    table = pq.read_table(shared / "data" / "web_mini" / "pool.parquet", columns=["image"])
    images = table["image"].slice(0, most).to_pylist()
    weights = shared / "models" / "vit_tiny_patch16_224.safetensors"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, image in enumerate(images):
            (folder / f"{number:05d}.jpg").write_bytes(image)
        hash_peers(images, folder)
        peer, vectors = encode_peers(images, folder, weights)
    vector_peers(vectors, peer)
    vector_peers(planted_vectors(rows, DIM, seed=0), peer)


# -- growth ---------------------------------------------------------------------------------------


def fill(store: Store, rows: int) -> None:
    """Write planted vectors as fragments: of ten neighbouring rows the last copies the first."""
    for start in range(0, rows, FRAGMENT):
        count = min(FRAGMENT, rows - start)
        vectors = planted_vectors(count, DIM, seed=0, first=start).astype(np.float32)
        rng = np.random.default_rng(start)
        copies = vectors[0 : count - 9 : 10] + 0.03 * rng.normal(size=(len(vectors[9::10]), DIM))
        vectors[9::10] = copies / np.linalg.norm(copies, axis=1, keepdims=True)
        digits = np.char.mod("%016x", mixed(np.arange(start, start + count)))
        ids = from_ids(np.char.multiply(digits, 2).astype("S32"))
        half = vector_array(vectors.astype(np.float16))
        batch = pa.RecordBatch.from_arrays([ids, half], names=["image_id", "vector"])
        writer = FragmentWriter(store, "vectors", f"web-{start:010d}", None)
        writer.write(batch)
        store.put_record(writer.close("vectors", f"web-{start:010d}", {}))


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Return numbers whose 16 hex digits are spread as those of digests are, one to one."""
    return (numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)


def joined(folder: Path, rows: int) -> dict[str, Any]:
    """Join the vectors of a store with each other; return seconds, recall and memory."""
    store = Store(folder)
    names = [f"web-{start:010d}" for start in range(0, rows, FRAGMENT)]
    records = store.finished_records("vectors", names)
    pool = {name: Fragment(store, records[name]) for name in names}
    near = Near()
    options = {"k": near.k, "floor": FLOOR, "spread": near.spread}
    choice = choose_join(near, rows, DIM)
    told: dict[str, Any] = {"rows": rows, "join": choice.join, "cells": choice.cells}
    firsts = mixed(np.arange(0, rows - 9, 10))
    wanted = dict(zip(firsts.tolist(), mixed(np.arange(9, rows, 10)).tolist(), strict=True))
    context = Context(store, workers(), "join", None)
    found, count = 0, 0
    with measured(told):
        for _, _, table in pairs_by(choice, pool, options, context):
            count += len(table)
            left, right = (table.column(n).to_pylist() for n in ("query_id", "image_id"))
            found += sum(
                wanted.get(int(a[:16], 16)) == int(b[:16], 16)
                for a, b in zip(left, right, strict=True)
            )
    return told | {"recall": found / len(wanted), "pairs": count}


def pairs_by(
    choice: JoinChoice,
    pool: dict[str, Fragment],
    options: dict[str, float],
    context: Context,
) -> Iterator[tuple[str, str, pa.Table]]:
    """Return the pairs of the join that was chosen."""
    if choice.join == "exact":
        return block_join({"pool": pool}, SOUGHT, options, context)
    _, sample = read_sample(sample_fragments(pool, sample_size(choice.cells), 0, context))
    trained = Codebooks(train_coarse(sample, choice.cells, seed=0))
    context.save_state("cells", choice.cells, codebooks.codebooks_batch(trained))
    books = context.load_state("cells", choice.cells)
    assert books is not None
    return cell_join({"pool": pool}, SOUGHT, options, books, context)


def growth(folder: Path, sizes: list[int]) -> None:
    """Print a row a size."""
    print("| rows | join | cells | s | exponent | recall | pairs | driver, GiB | worker, GiB |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    last: dict[str, Any] | None = None
    for rows in sizes:
        own = folder / str(rows)
        fill(Store(own), rows)
        command = [sys.executable, "-m", "benchmarks.dedup", "one", "--folder", str(own)]
        out = subprocess.run(
            [*command, "--rows", str(rows)], check=True, capture_output=True, text=True
        )
        said = json.loads(out.stdout.splitlines()[-1])
        slope = "–"
        if last:
            ratio = np.log(said["seconds"] / last["seconds"])
            slope = f"{ratio / np.log(said['rows'] / last['rows']):.2f}"
        print(
            f"| {rows:,} | {said['join']} | {said['cells']:,} | {said['seconds']:.1f} | {slope} "
            f"| {said['recall']:.4f} | {said['pairs']:,} | {said['driver']:.2f} "
            f"| {said['worker']:.2f} |",
            flush=True,
        )
        last = said


def main() -> None:
    """Run one part."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "what", choices=["peers", "growth", "one"], nargs="?", help="default: peers and growth"
    )
    parser.add_argument("--shared", type=Path, help="folder with real images")
    parser.add_argument("--folder", type=Path, help="where vectors are written and kept")
    parser.add_argument(
        "--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000, 3_000_000]
    )
    options = parse(parser, {"rows": [2_000, 4_000]})
    if options.what == "one":
        print(json.dumps(joined(options.folder, options.rows[0])))
        return
    print(conditions())
    if options.what != "peers":
        with folder_or_temporary(options.folder) as folder:
            growth(folder, options.rows)
    if options.what != "growth" and has_peer(options, "imagededup", "pip install imagededup"):
        shared = shared_folder(options)
        peers(shared, *((2_000, 64) if options.tiny else (50_000, None)))


if __name__ == "__main__":
    main()
