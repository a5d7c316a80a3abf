"""What one core does in a second, measured in a process of its own.

    python -m curation.inspect.cost.core_rates SECONDS    # writes the rates as JSON

`calibrate` starts one such process for each core that it measures.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from curation.algorithms.knn.hash_lists import HashLists
from curation.algorithms.knn.hash_parts import choose_parts, query_cost
from curation.stages.verify.reduced_image import ReducedImage, reduce_image

CALIBRATION_HASHES, HASH_DISTANCE = 1_000_000, 24


def measure_core(seconds: float) -> dict[str, float]:
    """Return the rates of the core of this process, by their names in `Rates`.

    Args:
        seconds: shortest time for which each rate is measured.
    """
    import cv2
    import faiss

    # Where torch is there, searches and k-means use it, as they do where there is much work.
    import torch

    for limit_threads in (torch.set_num_threads, faiss.omp_set_num_threads, cv2.setNumThreads):
        limit_threads(1)
    images = [_random_jpeg(seed) for seed in range(8)]
    work: dict[str, Callable[[], float]] = {
        "ingest_rows": _normalize_urls,
        "fetch_rows": lambda: _resize_and_encode(images),
        "screen_images": lambda: _screen(images),
        "decode_images": lambda: _preprocess(images),
        "hash_comparisons": _compare_hashes,
        "compared_pairs": lambda: _compare(images),
        "table_mb": _write_and_read_table,
        "cpu_gflop": lambda: multiply("cpu", 1024),
        "cpu_product_gflop": nearest_on("cpu", 2**13, 2**10, 256),
        "cell_gflop": _search_in_cell(floor=-1.0, k=8),
        "near_cell_gflop": _search_in_cell(floor=0.75, k=64),
    }
    return {name: per_second(function, seconds) for name, function in work.items()}


def per_second(work: Callable[[], float], shortest: float) -> float:
    """Return how much `work` does in a second; each call of it returns how much it did."""
    # The first call warms up caches.
    work()
    done, begun = 0.0, time.perf_counter()
    while (seconds := time.perf_counter() - begun) < shortest:
        done += work()
    return done / seconds


def _random_jpeg(seed: int) -> bytes:
    """Return a JPEG of 640 x 480 pixels with about as much detail as a photograph."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _normalize_urls() -> float:
    from curation.media.web.urls import normalize

    urls = [f"HTTP://Example.org:80/a/../b/{number}.jpg?x=1#y" for number in range(2000)]
    for url in urls:
        normalize(url)
    return len(urls)


def _resize_and_encode(images: list[bytes]) -> float:
    """Decode, resize to 512 px and encode, as fetch does with the bytes that it downloaded."""
    for content in images:
        with Image.open(io.BytesIO(content)) as image:
            small = image.convert("RGB").resize((512, 384), Image.Resampling.LANCZOS)
        small.save(io.BytesIO(), "JPEG", quality=95)
    return len(images)


def _screen(images: list[bytes]) -> float:
    from curation.media.pictures.hashes import decode_grey, perceptual_hash
    from curation.stages.screen.filters.base import Pair
    from curation.stages.screen.params import ScreenParams
    from curation.stages.screen.stage import load_filter

    filters = [load_filter(name) for name in ScreenParams().filters]
    for content in images:
        grey = decode_grey(content)
        assert grey is not None
        pair = Pair(640, 480, len(content), "a caption of a picture", content, grey)
        for filter_ in filters:
            filter_.score(pair)
        perceptual_hash(grey)
    return len(images)


def _preprocess(images: list[bytes]) -> float:
    from curation.media.encoders.encoder import load_encoder
    from curation.media.encoders.params import EncoderSpec

    encoder = load_encoder(EncoderSpec(model="vit_micro"), "cpu")
    for content in images:
        with Image.open(io.BytesIO(content)) as image:
            encoder.preprocess(image.convert("RGB"))
    return len(images)


def _compare_hashes() -> float:
    """Join hashes in the lists of one piece, and return the comparisons by `query_cost`."""
    parts = choose_parts(HASH_DISTANCE, CALIBRATION_HASHES, most_cell_bits=0)
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 256, (CALIBRATION_HASHES, 32), dtype=np.uint8)
    for _ in HashLists(hashes, parts, parts.pieces[0]).near(hashes):
        pass
    return CALIBRATION_HASHES * query_cost(parts, CALIBRATION_HASHES) / len(parts.pieces)


def _compare(images: list[bytes]) -> float:
    """Compare each image with the next one: these pairs are not copies."""
    from curation.stages.verify.compare import compare

    reduced = [ReducedImage.of(small) for small in map(reduce_image, images) if small]
    for left, right in pairwise(reduced):
        compare(left, right)
    return len(reduced) - 1


def _write_and_read_table() -> float:
    """Write a table of vectors to a file and read it, and return the megabytes written and read."""
    from curation.algorithms.arrays.vectors import vector_array

    vectors = np.random.default_rng(0).normal(size=(20_000, 512)).astype(np.float16)
    table = pa.table({"vector": vector_array(vectors)})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.parquet"
        pq.write_table(table, path, compression="none", use_dictionary=False)
        pq.read_table(path, use_threads=False)
    return 2 * vectors.nbytes / 1e6


def multiply(device: str, side: int) -> float:
    """Multiply two square matrices, and return the GFLOP.

    The precision is that of models and searches: float32 on CPUs, bfloat16 on GPUs.
    """
    import torch

    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    left = torch.ones(side, side, device=device, dtype=dtype)
    left @ left
    if device != "cpu":
        torch.cuda.synchronize()
    return 2 * side**3 / 1e9


def _search_in_cell(floor: float, k: int) -> Callable[[], float]:
    """Return what joins the 1,024 vectors of a cell above a floor, and returns the GFLOP."""
    from curation.algorithms.knn.blocks import nearest_others
    from curation.algorithms.knn.exact import build_base

    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((1024, 256), np.float32)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    ids = np.char.mod("%032x", np.arange(len(vectors))).astype("S32")
    options = {"k": k, "floor": floor, "self_join": 1.0}

    def search() -> float:
        nearest_others(ids, vectors, build_base(vectors, ids), options, "cpu")
        return 2e-9 * len(vectors) * int(vectors.size)

    return search


def nearest_on(device: str, points: int, centroids: int, dim: int) -> Callable[[], float]:
    """Return what finds the nearest centroids of points, and returns the GFLOP."""
    from curation.algorithms.kmeans.backends.load import load_backend
    from curation.algorithms.kmeans.lloyd import make_centroids

    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((points + centroids, dim), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    fixed = make_centroids(vectors[points:], "spherical")
    halves, backend = vectors[:points].astype(np.float16), load_backend("torch", device)

    def assign() -> float:
        # New points, as those of each fragment are.
        backend(halves).assign(fixed)
        return 2 * points * centroids * dim / 1e9

    return assign


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure_core(float(sys.argv[1]))) + "\n")
