"""Measures on this machine what the rates of a plan need: about half a minute on one core."""

from __future__ import annotations

import io
import platform
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from curation.inspect.cost.rates import Rates

SECONDS = 1.5
"""How long each rate is measured at least."""


def calibrate() -> Rates:
    """Return what one core of this machine does in a second, and one GPU where torch sees one."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measured()
    finally:
        torch.set_num_threads(threads)


def _measured() -> Rates:
    import torch

    pictures = [_picture(seed) for seed in range(8)]
    gpu = torch.cuda.is_available()
    name = f", {torch.cuda.get_device_name()}" if gpu else ""
    return Rates(
        measured_on=f"{platform.node()}, {platform.machine()}{name}",
        ingest_rows=_per_second(_clean_urls),
        fetch_rows=_per_second(lambda: _store(pictures)),
        screen_images=_per_second(lambda: _screen(pictures)),
        decode_images=_per_second(lambda: _prepare(pictures)),
        hash_queries=_per_second(_hashes),
        compared_pairs=_per_second(lambda: _compare(pictures)),
        table_mb=_per_second(_write_and_read),
        cpu_gflop=_per_second(lambda: _product("cpu", 1024)),
        gpu_gflop=_per_second(lambda: _product("cuda", 8192)) if gpu else None,
    )


def _per_second(work: Callable[[], float]) -> float:
    """Return how much of what `work` counts is done in a second, after one call to warm up."""
    work()
    done, begun = 0.0, time.perf_counter()
    while (taken := time.perf_counter() - begun) < SECONDS:
        done += work()
    return float(f"{done / taken:.4g}")


def _picture(seed: int) -> bytes:
    """Return a JPEG of 640 x 480 with as much detail as a photograph has."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _clean_urls() -> float:
    from curation.media.web.urls import normalize

    urls = [f"HTTP://Example.org:80/a/../b/{number}.jpg?x=1#y" for number in range(2000)]
    for url in urls:
        normalize(url)
    return len(urls)


def _store(pictures: list[bytes]) -> float:
    """Decode, resize to 512 px and encode, as fetch does once the bytes are there."""
    for data in pictures:
        with Image.open(io.BytesIO(data)) as picture:
            small = picture.convert("RGB").resize((512, 384), Image.Resampling.LANCZOS)
        small.save(io.BytesIO(), "JPEG", quality=95)
    return len(pictures)


def _screen(pictures: list[bytes]) -> float:
    from curation.media.pictures.hashes import decode_grey, perceptual_hash
    from curation.stages.screen.filters.base import Pair
    from curation.stages.screen.params import ScreenParams
    from curation.stages.screen.stage import load_filter

    filters = [load_filter(name) for name in ScreenParams().filters]
    for data in pictures:
        grey = decode_grey(data)
        assert grey is not None
        pair = Pair(640, 480, len(data), "a caption of a picture", data, grey)
        for own in filters:
            own.score(pair)
        perceptual_hash(grey)
    return len(pictures)


def _prepare(pictures: list[bytes]) -> float:
    from curation.media.encoders.encoder import load_encoder
    from curation.media.encoders.params import EncoderSpec

    encoder = load_encoder(EncoderSpec(model="vit_micro"), "cpu")
    for data in pictures:
        with Image.open(io.BytesIO(data)) as picture:
            encoder.preprocess(picture.convert("RGB"))
    return len(pictures)


def _hashes() -> float:
    """Search hashes among others."""
    import faiss

    from curation.algorithms.knn.hamming import range_search
    from curation.inspect.cost.workload import HASHED

    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 256, (HASHED - 1, 32), dtype=np.uint8)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    range_search(hashes[:500], hashes, 24)
    faiss.omp_set_num_threads(threads)
    return 500


def _compare(pictures: list[bytes]) -> float:
    """Compare each picture with the next one, as pairs that are no copies."""
    import cv2

    from curation.stages.verify.compare import compare
    from curation.stages.verify.reduced_image import ReducedImage, reduce_image

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    small = [ReducedImage.of(data) for data in map(reduce_image, pictures) if data]
    for left, right in pairwise(small):
        compare(left, right)
    cv2.setNumThreads(threads)
    return len(small) - 1


def _write_and_read() -> float:
    """Return the megabytes of a table of vectors that went to a file and came back."""
    from curation.algorithms.arrays.vectors import vector_array

    vectors = np.random.default_rng(0).normal(size=(20_000, 512)).astype(np.float16)
    table = pa.table({"vector": vector_array(vectors)})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.parquet"
        pq.write_table(table, path, compression="none", use_dictionary=False)
        pq.read_table(path, use_threads=False)
    return 2 * vectors.nbytes / 1e6


def _product(device: str, side: int) -> float:
    """Return the billions of operations of a product: on CPUs models and searches run in float32."""
    import torch

    kind = torch.float32 if device == "cpu" else torch.bfloat16
    left = torch.ones(side, side, device=device, dtype=kind)
    left @ left
    if device != "cpu":
        torch.cuda.synchronize()
    return 2 * side**3 / 1e9
