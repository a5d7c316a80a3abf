"""Finding copies compared with imagededup and FAISS, and how the join by cells grows.

    pip install imagededup                         # not needed by the project
    python -m benchmarks.dedup peers --shared ../shared
    python -m benchmarks.dedup growth --folder /tmp/joins --rows 10000 100000 1000000 3000000

`peers` compares on the images of a small real web: computing perceptual hashes and finding all near
pairs, by imagededup in two processes and by ours in one, as a task does (its hash has 64 bits, ours
256); and computing the vectors of the same ViT. Then it compares, on these vectors and on more planted
ones, imagededup's search of all pairs, FAISS's flat index with the 64 nearest of each, and our exact
join with the same k and with the floor of the default recipe.

`growth` joins planted vectors (float16, 256 dimensions), of which every tenth copies another at a
cosine of about 0.9. It uses the join of the stage, exact or by cells as the stage chooses, on a local
Spark with one worker per core, each size in its own process. Recall is the share of planted pairs that
are found. Peak memory is that of the driver's Python process and of the largest worker; Java's heap (1
GiB) is not included.
"""

from __future__ import annotations

import argparse
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

from benchmarks.machine import conditions
from benchmarks.measure import measured, workers
from benchmarks.planted import planted_vectors
from curation.algorithms.arrays.ids import from_ids
from curation.algorithms.arrays.vectors import vector_array
from curation.algorithms.knn.blocks import block_join, nearest_others
from curation.algorithms.knn.cells import cell_join
from curation.algorithms.knn.choice import JoinChoice, choose_join
from curation.algorithms.knn.codebooks import codebooks_batch
from curation.algorithms.knn.exact import Candidates, build_base
from curation.algorithms.knn.hamming import range_search
from curation.algorithms.knn.ivf import Codebooks, sample_size, train_coarse
from curation.algorithms.knn.params import HammingParams
from curation.algorithms.knn.sample import read_sample, sample_fragments
from curation.engine.context import Context
from curation.engine.device import CPU
from curation.engine.fragment import Fragment
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.store import Store
from curation.stages.dedup.params import Near

DIM, ROWS_PER_FRAGMENT, K = 256, 100_000, 64
FLOOR = 0.75
ROLE_PAIRS = (("pool", "pool"),)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that a call took, and its result."""
    begun = time.perf_counter()
    result = call()
    return time.perf_counter() - begun, result


# -- compared with others --------------------------------------------------------------------------


def hashes_of(images: list[bytes]) -> np.ndarray:
    """Return our hashes, shape (n, 32). Flat images have none and are left out."""
    from curation.media.pictures.hashes import decode_grey, perceptual_hash

    hashes = [perceptual_hash(grey) for grey in map(decode_grey, images) if grey is not None]
    return np.stack([np.frombuffer(phash, np.uint8) for phash in hashes if phash])


def hash_peers(images: list[bytes], folder: Path) -> None:
    """Print the seconds that both need for hashes and for pairs."""
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
    """Print the seconds that both need for vectors of one ViT; return the peer and our vectors."""
    from imagededup.methods import CNN
    from imagededup.utils import CustomModel

    from curation.media.encoders.encoder import load_encoder
    from curation.media.encoders.forward import encode
    from curation.media.encoders.params import EncoderSpec
    from curation.media.pictures.decode import decode

    spec = EncoderSpec(model="timm/vit_tiny_patch16_224", weights=str(weights))
    encoder = load_encoder(spec, "cpu")

    def embed() -> np.ndarray:
        parts = []
        for start in range(0, len(images), 64):
            pictures = [decode(image) for image in images[start : start + 64]]
            parts.append(encode(encoder, pictures, 64, "cpu")[0])
        return np.concatenate(parts)

    ours, vectors = timed(embed)
    model = CustomModel(name="vit_tiny", model=encoder.model, transform=encoder.preprocess)
    peer = CNN(verbose=False, model_config=model)
    theirs, encoded = timed(lambda: peer.encode_images(image_dir=folder, num_enc_workers=0))
    distances = [
        1 - float(vector.astype(np.float32) @ (other / np.linalg.norm(other)))
        for vector, (_, other) in zip(vectors, sorted(encoded.items()), strict=True)
    ]
    print("\n| one ViT, on the same images | imagededup, s | ours, s | faster by |")
    print("|---|---|---|---|")
    print(f"| {len(images):,} vectors | {theirs:.1f} | {ours:.1f} | {theirs / ours:.2f} |")
    print(f"\nlargest cosine distance between the two vectors of an image: {max(distances):.1e}")
    return peer, vectors


def vector_peers(vectors: np.ndarray, peer: Any) -> None:
    """Print the seconds that each needs for all near pairs of the same vectors."""
    ids = np.char.mod("%032x", np.arange(len(vectors))).astype("S32")
    vectors32 = vectors.astype(np.float32)
    options = {"k": K, "floor": FLOOR, "self_join": 1.0}

    def join(floor: float) -> Candidates:
        base = build_base(vectors, ids)
        return nearest_others(ids, vectors, base, options | {"floor": floor}, CPU)

    ours, near = timed(lambda: join(FLOOR))
    all_nearest, _ = timed(lambda: join(-1.0))
    index = faiss.IndexFlatIP(vectors32.shape[1])
    index.add(vectors32)
    flat, (score, rows) = timed(lambda: index.search(vectors32, K + 1))
    is_pair = (rows != np.arange(len(rows))[:, None]) & (score >= FLOOR)
    encoded = {name.decode(): vector for name, vector in zip(ids, vectors32, strict=True)}
    theirs, _ = timed(
        lambda: peer.find_duplicates(encoding_map=encoded, min_similarity_threshold=FLOOR)
    )
    print(f"\n| {len(vectors):,} × {vectors32.shape[1]} vectors | s | ours, s | faster by |")
    print("|---|---|---|---|")
    print(
        f"| imagededup, pairs of at least {FLOOR} | {theirs:.2f} | {ours:.2f} | {theirs / ours:.1f} |"
    )
    print(f"| FAISS flat, k = {K} | {flat:.2f} | {all_nearest:.2f} | {flat / all_nearest:.2f} |")
    print(f"\npairs of at least {FLOOR}: ours {len(near.query):,}, FAISS {int(is_pair.sum()):,}")


def peers(shared: Path, rows: int) -> None:
    """Print all comparisons with imagededup and FAISS."""
    table = pq.read_table(shared / "data" / "web_mini" / "pool.parquet", columns=["image"])
    images = table["image"].to_pylist()
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
    """Write planted vectors as fragments. Of every ten rows, the last copies the first."""
    for start in range(0, rows, ROWS_PER_FRAGMENT):
        count = min(ROWS_PER_FRAGMENT, rows - start)
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
        store.record(writer.close("vectors", f"web-{start:010d}", {}))


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Return distinct numbers whose 16 hex digits are spread evenly, as those of digests are."""
    return (numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)


def measure_join(folder: Path, rows: int) -> dict[str, Any]:
    """Join the vectors of a store with each other; return seconds, recall and memory."""
    store = Store(folder)
    names = [f"web-{start:010d}" for start in range(0, rows, ROWS_PER_FRAGMENT)]
    records = store.finished("vectors", names)
    pool = {name: Fragment(store, records[name]) for name in names}
    near = Near()
    options = {"k": near.k, "floor": FLOOR, "spread": near.spread}
    choice = choose_join(near, rows, DIM)
    measures: dict[str, Any] = {"rows": rows, "join": choice.join, "cells": choice.cells}
    firsts = mixed(np.arange(0, rows - 9, 10))
    planted_pairs = dict(zip(firsts.tolist(), mixed(np.arange(9, rows, 10)).tolist(), strict=True))
    context = Context(store, workers(), "join", None)
    found_count, pair_count = 0, 0
    with measured(measures):
        for _, _, table in pairs_by(choice, pool, options, context):
            pair_count += len(table)
            left, right = (table.column(n).to_pylist() for n in ("query_id", "image_id"))
            found_count += sum(
                planted_pairs.get(int(a[:16], 16)) == int(b[:16], 16)
                for a, b in zip(left, right, strict=True)
            )
    return measures | {"recall": found_count / len(planted_pairs), "pairs": pair_count}


def pairs_by(
    choice: JoinChoice,
    pool: dict[str, Fragment],
    options: dict[str, float],
    context: Context,
) -> Iterator[tuple[str, str, pa.Table]]:
    """Return the pairs of the chosen join."""
    if choice.join == "exact":
        return block_join({"pool": pool}, ROLE_PAIRS, options, context)
    _, sample = read_sample(sample_fragments(pool, sample_size(choice.cells), 0, context))
    trained = Codebooks(train_coarse(sample, choice.cells, seed=0))
    context.remember("cells", choice.cells, codebooks_batch(trained))
    codebooks = context.recall("cells", choice.cells)
    assert codebooks is not None
    return cell_join({"pool": pool}, ROLE_PAIRS, options, codebooks, context)


def growth(folder: Path, sizes: list[int]) -> None:
    """Print one row per size."""
    print("| rows | join | cells | s | exponent | recall | pairs | driver, GiB | worker, GiB |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    previous: dict[str, Any] | None = None
    for rows in sizes:
        size_folder = folder / str(rows)
        fill(Store(size_folder), rows)
        command = [sys.executable, "-m", "benchmarks.dedup", "one", "--folder", str(size_folder)]
        process = subprocess.run(
            [*command, "--rows", str(rows)], check=True, capture_output=True, text=True
        )
        measures = json.loads(process.stdout.splitlines()[-1])
        exponent = "–"
        if previous:
            ratio = np.log(measures["seconds"] / previous["seconds"])
            exponent = f"{ratio / np.log(measures['rows'] / previous['rows']):.2f}"
        print(
            f"| {rows:,} | {measures['join']} | {measures['cells']:,} | {measures['seconds']:.1f} "
            f"| {exponent} | {measures['recall']:.4f} | {measures['pairs']:,} "
            f"| {measures['driver']:.2f} | {measures['worker']:.2f} |",
            flush=True,
        )
        previous = measures


def main() -> None:
    """Run the comparison that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["peers", "growth", "one"])
    parser.add_argument("--shared", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument(
        "--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000, 3_000_000]
    )
    options = parser.parse_args()
    if options.what == "one":
        print(json.dumps(measure_join(options.folder, options.rows[0])))
        return
    print(conditions())
    if options.what == "peers":
        peers(options.shared, 50_000)
    else:
        growth(options.folder, options.rows)


if __name__ == "__main__":
    main()
