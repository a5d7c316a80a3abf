"""Finding copies beside imagededup and FAISS, and how time and memory of the near join grow.

    pip install imagededup                         # only this benchmark needs it
    python -m benchmarks.dedup peers --shared ../shared
    python -m benchmarks.dedup joins               # needs neither imagededup nor pictures
    python -m benchmarks.dedup growth              # 10,000 to 3,000,000 vectors

`peers`: both sides compute perceptual hashes of the same pictures and find all near pairs. Both run in
two processes, imagededup with hashes of 64 bits, ours with hashes of 256 bits. Both sides compute
vectors with the same ViT. Then near pairs of these vectors, and of more planted ones, are searched, by
our exact join with k = 64 and the floor of the default recipe, and by imagededup's search of all pairs.

`joins`: our exact join of planted vectors, with and without that floor, beside FAISS's flat index.

`growth`: the vectors are planted (float16, 256 dimensions); every tenth is a copy of another, at a
cosine of about 0.9. The join is that of the stage: exact or by cells, as it chooses for the number of
rows. It runs on a local Spark with one worker per core, and each size runs in a separate process.
Recall is the share of the planted pairs that are found. Peak memory is that of the driver's Python
process and that of the largest worker; Java's heap (1 GiB) is not included.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
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
from curation.algorithms.knn.blocks import nearest_others, search_blocks
from curation.algorithms.knn.cells import search_cells
from curation.algorithms.knn.choice import JoinChoice, choose_join
from curation.algorithms.knn.exact import build_base
from curation.algorithms.knn.hamming import range_search
from curation.algorithms.knn.ivf import Codebooks, sample_size, train_coarse
from curation.algorithms.knn.pair_merge import merged_pairs
from curation.algorithms.knn.params import HammingParams
from curation.algorithms.knn.sample import read_sample, sample_fragments
from curation.engine.context import Context
from curation.engine.fragment_writer import FragmentWriter
from curation.stages.dedup.params import Near
from curation.store.fragment import Fragment
from curation.store.store import Store

DIM, FRAGMENT_ROWS, K = 256, 100_000, 64
FLOOR = 0.75
ROLE_PAIRS = (("pool", "pool"),)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Call a function; return the seconds that it took, and its result."""
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


# -- peers ----------------------------------------------------------------------------------------


def compute_hashes(images: list[bytes]) -> np.ndarray:
    """Return our hashes, (n, 32); flat pictures have no hash and are left out."""
    from curation.media.pictures.hashes import decode_grey, perceptual_hash

    hashes = [perceptual_hash(grey) for grey in map(decode_grey, images) if grey is not None]
    return np.stack([np.frombuffer(digest, np.uint8) for digest in hashes if digest])


def measured_hashes(images: list[bytes]) -> tuple[np.ndarray, float]:
    """Return our hashes, and the processor time that they took."""
    begun = time.process_time()
    return compute_hashes(images), time.process_time() - begun


def children_time() -> float:
    """Return the processor time of this process and of its children that ended."""
    of = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in of)


def compare_hashes(images: list[bytes], folder: Path) -> None:
    """Print the seconds of both sides for hashes, three times in turn, and for near pairs of them."""
    from imagededup.methods import PHash

    peer = PHash(verbose=False)
    parts = [images[start : start + 500] for start in range(0, len(images), 500)]
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    processor: dict[str, list[float]] = {"ours": [], "peer": []}
    with ProcessPoolExecutor(2, get_context("forkserver")) as pool:
        # The processes run already, as Spark's do; imagededup's are forked for each call.
        list(pool.map(measured_hashes, parts[:2]))
        for _ in range(3):
            elapsed, ours = timed(lambda: list(pool.map(measured_hashes, parts)))
            seconds["ours"].append(elapsed)
            processor["ours"].append(sum(spent for _, spent in ours))
            begun = children_time()
            elapsed, theirs = timed(lambda: peer.encode_images(image_dir=folder, num_enc_workers=2))
            seconds["peer"].append(elapsed)
            processor["peer"].append(children_time() - begun)
    hashes = np.concatenate([part for part, _ in ours])
    print("| perceptual hash, two processes each | imagededup, s | ours, s | faster by |")
    print("|---|---|---|---|")
    _print_medians(f"{len(hashes):,} hashes", seconds)
    _print_medians("processor time of both processes", processor)
    our_join_s, _ = timed(lambda: range_search(hashes, hashes, HammingParams().max_distance))
    join_s, _ = timed(lambda: peer.find_duplicates(encoding_map=theirs, max_distance_threshold=6))
    ratio = f"{join_s / our_join_s:.1f}"
    print(f"| all near pairs | {join_s:.2f} | {our_join_s:.2f} | {ratio} |", flush=True)


def _print_medians(what: str, seconds: dict[str, list[float]]) -> None:
    ours, peer = median(seconds["ours"]), median(seconds["peer"])
    print(f"| {what} | {peer:.1f} | {ours:.1f} | {peer / ours:.2f} |")


def compare_encoding(images: list[bytes], folder: Path, weights: Path) -> tuple[Any, np.ndarray]:
    """Print the seconds of both sides for vectors of one ViT; return imagededup's CNN, our vectors."""
    from imagededup.methods import CNN
    from imagededup.utils import CustomModel

    from curation.media.encoders.encoder import load_encoder
    from curation.media.encoders.forward import encode
    from curation.media.encoders.params import EncoderSpec
    from curation.media.pictures.decode import decode

    spec = EncoderSpec(model="timm/vit_tiny_patch16_224", weights=str(weights))
    encoder = load_encoder(spec, "cpu")

    def encode_all() -> np.ndarray:
        batches = []
        for start in range(0, len(images), 64):
            pictures = [decode(image) for image in images[start : start + 64]]
            batches.append(encode(encoder, pictures, 64, "cpu")[0])
        return np.concatenate(batches)

    our_s, vectors = timed(encode_all)
    model = CustomModel(name="vit_tiny", model=encoder.model, transform=encoder.preprocess)
    peer = CNN(verbose=False, model_config=model)
    peer_s, encoded = timed(lambda: peer.encode_images(image_dir=folder, num_enc_workers=0))
    distances = [
        1 - float(vector.astype(np.float32) @ (peer_vector / np.linalg.norm(peer_vector)))
        for vector, (_, peer_vector) in zip(vectors, sorted(encoded.items()), strict=True)
    ]
    print("\n| one ViT, on the same pictures | imagededup, s | ours, s | faster by |")
    print("|---|---|---|---|")
    print(f"| {len(images):,} vectors | {peer_s:.1f} | {our_s:.1f} | {peer_s / our_s:.2f} |")
    print(f"\nlargest cosine distance between the two vectors of a picture: {max(distances):.1e}")
    return peer, vectors


def planted_ids(rows: int) -> np.ndarray:
    """Return distinct ids, (rows,) as S32."""
    return np.char.mod("%032x", np.arange(rows)).astype("S32")


def compare_flat(vectors: np.ndarray) -> None:
    """Print the seconds of our exact join and of FAISS's flat index, three times in turn."""
    ids, floats = planted_ids(len(vectors)), vectors.astype(np.float32)
    base = build_base(vectors, ids)
    options = {"k": K, "floor": FLOOR, "self_join": 1.0}
    no_floor = options | {"floor": -1.0}

    def search_flat() -> Any:
        index = faiss.IndexFlatIP(floats.shape[1])
        index.add(floats)
        return index.search(floats, K + 1)

    sides: dict[str, Callable[[], Any]] = {
        "FAISS flat": search_flat,
        "ours, no floor": lambda: nearest_others(ids, vectors, base, no_floor, "cpu"),
        "ours": lambda: nearest_others(ids, vectors, base, options, "cpu"),
    }
    # The first search loads libraries.
    nearest_others(ids[:64], vectors[:64], base, options, "cpu")
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    results: dict[str, Any] = {}
    for _ in range(3):
        for side, run in sides.items():
            elapsed, results[side] = timed(run)
            seconds[side].append(elapsed)
    score, rows = results["FAISS flat"]
    is_pair = (rows != np.arange(len(rows))[:, None]) & (score >= FLOOR)
    flat_s, no_floor_s, floor_s = (median(seconds[side]) for side in sides)
    print(f"\n| {len(vectors):,} × {floats.shape[1]} vectors, k = {K} | s | faster by |")
    print("|---|---|---|")
    print(f"| FAISS flat | {flat_s:.2f} | |")
    print(f"| ours, no floor | {no_floor_s:.2f} | {flat_s / no_floor_s:.2f} |")
    print(f"| ours, pairs from {FLOOR} on | {floor_s:.2f} | {flat_s / floor_s:.2f} |")
    pairs = len(results["ours"].query)
    print(f"\npairs from {FLOOR} on: ours {pairs:,}, FAISS {int(is_pair.sum()):,}", flush=True)


def compare_joins(vectors: np.ndarray, peer: Any) -> None:
    """Print the seconds of both sides for near pairs of the same vectors; peer: imagededup's CNN."""
    ids = planted_ids(len(vectors))
    base = build_base(vectors, ids)
    options = {"k": K, "floor": FLOOR, "self_join": 1.0}
    our_s, _ = timed(lambda: nearest_others(ids, vectors, base, options, "cpu"))
    floats = vectors.astype(np.float32)
    encoded = {image_id.decode(): vector for image_id, vector in zip(ids, floats, strict=True)}
    peer_s, _ = timed(
        lambda: peer.find_duplicates(encoding_map=encoded, min_similarity_threshold=FLOOR)
    )
    print(f"\n| {len(vectors):,} × {floats.shape[1]} vectors | s | ours, s | faster by |")
    print("|---|---|---|---|")
    ratio = f"{peer_s / our_s:.1f}"
    print(f"| imagededup, pairs from {FLOOR} on | {peer_s:.2f} | {our_s:.2f} | {ratio} |")


def compare_peers(shared: Path, rows: int, max_images: int | None) -> None:
    """Print all comparisons.

    Args:
        shared: the folder with real images.
        rows: number of planted vectors to search.
        max_images: number of images to take; None takes all.
    """
    table = pq.read_table(shared / "data" / "web_mini" / "pool.parquet", columns=["image"])
    images = table["image"].slice(0, max_images).to_pylist()
    weights = shared / "models" / "vit_tiny_patch16_224.safetensors"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, image in enumerate(images):
            (folder / f"{number:05d}.jpg").write_bytes(image)
        compare_hashes(images, folder)
        peer, vectors = compare_encoding(images, folder, weights)
    compare_joins(vectors, peer)
    compare_joins(planted_vectors(rows, DIM, seed=0), peer)


# -- growth ---------------------------------------------------------------------------------------


def fill(store: Store, rows: int) -> None:
    """Write planted vectors as fragments; of every ten rows, the last is a copy of the first."""
    for start in range(0, rows, FRAGMENT_ROWS):
        count = min(FRAGMENT_ROWS, rows - start)
        vectors = planted_vectors(count, DIM, seed=0, first=start).astype(np.float32)
        rng = np.random.default_rng(start)
        copies = vectors[0 : count - 9 : 10] + 0.03 * rng.normal(size=(len(vectors[9::10]), DIM))
        vectors[9::10] = copies / np.linalg.norm(copies, axis=1, keepdims=True)
        digits = np.char.mod("%016x", hashes(np.arange(start, start + count)))
        ids = from_ids(np.char.multiply(digits, 2).astype("S32"))
        halves = vector_array(vectors.astype(np.float16))
        batch = pa.RecordBatch.from_arrays([ids, halves], names=["image_id", "vector"])
        writer = FragmentWriter(store, "vectors", f"web-{start:010d}", None)
        writer.write(batch)
        store.put_record(writer.close("vectors", f"web-{start:010d}", {}))


def hashes(numbers: np.ndarray) -> np.ndarray:
    """Return a distinct hash of 64 bits for each number, spread as the digests of images are."""
    return (numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)


def measure_join(folder: Path, rows: int) -> dict[str, Any]:
    """Join the vectors of a store with each other; return seconds, recall and memory."""
    store = Store(folder)
    names = [f"web-{start:010d}" for start in range(0, rows, FRAGMENT_ROWS)]
    records = store.finished_records("vectors", names)
    pool = {name: Fragment(store, records[name]) for name in names}
    near = Near()
    options = {"k": near.k, "floor": FLOOR, "spread": near.spread}
    choice = choose_join(near, rows, DIM)
    measurements: dict[str, Any] = {"rows": rows, "join": choice.join, "cells": choice.cells}
    originals, copies = hashes(np.arange(0, rows - 9, 10)), hashes(np.arange(9, rows, 10))
    copy_of = dict(zip(originals.tolist(), copies.tolist(), strict=True))
    context = Context(store, workers(), "join", None)
    true_positives, pairs = 0, 0
    with measured(measurements):
        for _, _, table in find_pairs(choice, pool, options, context):
            pairs += len(table)
            left, right = (table.column(n).to_pylist() for n in ("query_id", "image_id"))
            true_positives += sum(
                copy_of.get(int(a[:16], 16)) == int(b[:16], 16)
                for a, b in zip(left, right, strict=True)
            )
    return measurements | {"recall": true_positives / len(copy_of), "pairs": pairs}


def find_pairs(
    choice: JoinChoice,
    pool: dict[str, Fragment],
    options: dict[str, float],
    context: Context,
) -> Iterator[tuple[str, str, pa.Table]]:
    """Return the pairs that the chosen join finds."""
    by_role = {"pool": pool}
    if choice.join == "exact":
        searched = search_blocks(by_role, ROLE_PAIRS, options, context, "blocks")
    else:
        cells = _train_cells(choice.cells, pool, context)
        searched = search_cells(by_role, ROLE_PAIRS, options, cells, context)
    return merged_pairs(searched, ROLE_PAIRS, int(options["k"]), context)


def _train_cells(cells: int, pool: dict[str, Fragment], context: Context) -> Fragment:
    _, sample = read_sample(sample_fragments(pool, sample_size(cells), 0, context))
    trained = Codebooks(train_coarse(sample, cells, seed=0))
    context.save_state("cells", cells, codebooks.codebooks_batch(trained))
    cell_codebooks = context.load_state("cells", cells)
    assert cell_codebooks is not None
    return cell_codebooks


def growth(folder: Path, sizes: list[int]) -> None:
    """Print a row for each size."""
    print("| rows | join | cells | s | exponent | recall | pairs | driver, GiB | worker, GiB |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    last: dict[str, Any] | None = None
    for rows in sizes:
        store = folder / str(rows)
        fill(Store(store), rows)
        command = [sys.executable, "-m", "benchmarks.dedup", "one", "--folder", str(store)]
        process = subprocess.run(
            [*command, "--rows", str(rows)], check=True, capture_output=True, text=True
        )
        result = json.loads(process.stdout.splitlines()[-1])
        exponent = "–"
        if last:
            ratio = np.log(result["seconds"] / last["seconds"])
            exponent = f"{ratio / np.log(rows / last['rows']):.2f}"
        print(
            f"| {rows:,} | {result['join']} | {result['cells']:,} | {result['seconds']:.1f} "
            f"| {exponent} | {result['recall']:.4f} | {result['pairs']:,} "
            f"| {result['driver']:.2f} | {result['worker']:.2f} |",
            flush=True,
        )
        last = result


def main() -> None:
    """Run one part."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "what",
        choices=["peers", "joins", "growth", "one"],
        nargs="?",
        help="default: peers, joins and growth",
    )
    parser.add_argument("--shared", type=Path, help="folder with real images")
    parser.add_argument("--folder", type=Path, help="vectors are written and kept here")
    parser.add_argument(
        "--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000, 3_000_000]
    )
    options = parse(parser, {"rows": [2_000, 4_000]})
    if options.what == "one":
        print(json.dumps(measure_join(options.folder, options.rows[0])))
        return
    print(conditions())
    if options.what in (None, "joins"):
        for rows, dim in ((500, 32),) if options.tiny else ((8_000, 192), (50_000, 256)):
            compare_flat(planted_vectors(rows, dim, seed=0))
    if options.what in (None, "growth"):
        with folder_or_temporary(options.folder) as folder:
            growth(folder, options.rows)
    if options.what in (None, "peers") and has_peer(
        options, "imagededup", "pip install imagededup"
    ):
        shared = shared_folder(options)
        compare_peers(shared, *((2_000, 64) if options.tiny else (50_000, None)))


if __name__ == "__main__":
    main()
