"""The stage embed, compared with the bare forward pass, and with a loader like clip-retrieval's.

    python -m benchmarks.embed [--model timm/vit_tiny_patch16_224] [--weights FILE] [--pictures 2000]
        [--precision bf16] [--device cpu] [--processes 2]

Photographs of about 500 px (crops of those of scikit-image, JPEG 90) are fetched into a store. Each
side then runs in several processes with one thread each, as Spark runs tasks:

* limit: only the forward pass of the model, on normalised images in memory;
* ours: the stage embed, from stored JPEG bytes to stored vectors;
* loader: webdataset, PIL and the transforms of torchvision with the same model; vectors stay in memory.

All three have the same precision and batch size. On a GPU there is one process, whose threads
preprocess images.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.machine import conditions

BATCH = 64
PARTS = 4
REPEATS = 3


def photographs(count: int) -> list[bytes]:
    """Return crops of scikit-image's photographs as JPEG, with a longer side of 400 to 600 px."""
    from skimage import data

    names = ("astronaut", "coffee", "chelsea", "rocket", "cat")
    originals = [Image.fromarray(getattr(data, name)()).convert("RGB") for name in names]
    rng = np.random.default_rng(0)
    crops = []
    for number in range(count):
        image = originals[number % len(originals)]
        fraction = rng.uniform(0.5, 1.0)
        width, height = int(image.width * fraction), int(image.height * fraction)
        left = int(rng.integers(0, image.width - width + 1))
        top = int(rng.integers(0, image.height - height + 1))
        crop = image.crop((left, top, left + width, top + height))
        scale = rng.uniform(400, 600) / max(crop.size)
        size = round(crop.width * scale), round(crop.height * scale)
        out = io.BytesIO()
        crop.resize(size, Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
        crops.append(out.getvalue())
    return crops


def prepare(folder: Path, count: int) -> int:
    """Write a store with the table `images`, and the images as tars; return their size in bytes."""
    from curation.engine.parallel import InProcess
    from curation.engine.store import Store
    from curation.engine.table import open_table
    from curation.flow import plan
    from curation.recipe import parse_recipe
    from curation.runner import run_step

    rows = [{"image": data, "uid": str(n)} for n, data in enumerate(photographs(count))]
    pq.write_table(pa.Table.from_pylist(rows), folder / "pairs.parquet")
    columns = {"image": "image", "key": "uid"}
    source = {"name": "web", "role": "pool", "format": "parquet", "columns": columns}
    spec = {
        "name": "embed",
        "sources": [source | {"path": str(folder / "pairs.parquet")}],
        "ingest": {"rows_per_fragment": -(-count // PARTS)},
        "dedup": {"near": None},
    }
    store = Store(folder / "store")
    for step in plan(parse_recipe(spec), until="fetch"):
        run_step(step, store, InProcess())
    fragments = list(open_table(store, "images").fragments.values())
    size = 0
    for number, fragment in enumerate(fragments):
        with tarfile.open(folder / f"{number:03d}.tar", "w") as tar:
            for row in fragment.read(["pair_id", "image"]).to_pylist():
                entry = tarfile.TarInfo(f"{row['pair_id']}.jpg")
                entry.size = len(row["image"])
                size += entry.size
                tar.addfile(entry, io.BytesIO(row["image"]))
    return size


def spec_of(options: argparse.Namespace) -> Any:
    """Return the encoder as in a recipe."""
    from curation.media.encoders.params import EncoderSpec

    return EncoderSpec(model=options.model, weights=options.weights, precision=options.precision)


def limit(options: argparse.Namespace, folder: Path, parts: list[int], count: int) -> float:
    """Return the seconds of the forward passes."""
    import torch

    from curation.media.encoders.encoder import load_encoder

    encoder = load_encoder(spec_of(options), options.device)
    model, dtype = encoder.model.model, encoder.model.dtype
    pixels = torch.randn(BATCH, *encoder.blank.shape).to(options.device, dtype=dtype)

    def run() -> None:
        with torch.inference_mode():
            for _ in range(-(-count // BATCH)):
                features = model(pixels)
        features.float().cpu()

    # An incomplete last batch is a full forward pass on all sides.
    return timed(run)


def ours(options: argparse.Namespace, folder: Path, parts: list[int], count: int) -> float:
    """Return the seconds of the stage, including its writing of files."""
    from curation.engine.store import Store
    from curation.engine.table import open_table
    from curation.engine.units import Output, Unit, run_unit
    from curation.stages.embed.params import EmbedParams
    from curation.stages.embed.stage import embed

    store = Store(folder / "store")
    fragments = list(open_table(store, "images").fragments.values())
    params = EmbedParams(encoders={"model": spec_of(options)}, batch_size=BATCH)

    def on_device(images: Any, params: Any) -> Any:
        return embed(images, params=params, device=options.device)

    def run() -> None:
        for number in parts:
            output = Output("embeddings.model", "work/bench", "work/bench/data", f"{number}")
            arguments = {"images": fragments[number], "params": params}
            run_unit(store, Unit(str(number), on_device, arguments, {"embeddings.model": output}))

    return timed(run)


def loader(options: argparse.Namespace, folder: Path, parts: list[int], count: int) -> float:
    """Return the seconds of webdataset, PIL and torchvision with the same model."""
    import timm
    import torch
    import webdataset

    from curation.media.encoders.encoder import load_encoder

    model = load_encoder(spec_of(options), options.device).model.model
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[
        options.precision
    ]
    plain = timm.create_model(options.model.removeprefix("timm/"), pretrained=False)
    transform: Any = timm.data.create_transform(
        **timm.data.resolve_model_data_config(plain), is_training=False
    )
    tars = [str(folder / f"{number:03d}.tar") for number in parts]

    def run() -> None:
        data = webdataset.WebDataset(tars, shardshuffle=False).decode("pilrgb").to_tuple("jpg")
        data = data.map_tuple(transform).batched(BATCH)
        workers = 0 if options.device == "cpu" else 16
        vectors = []
        with torch.inference_mode():
            for (pixels,) in torch.utils.data.DataLoader(
                data, batch_size=None, num_workers=workers
            ):
                features = model(pixels.to(options.device, dtype=dtype)).float()
                vectors.append(torch.nn.functional.normalize(features).cpu().numpy())
        np.concatenate(vectors)

    return timed(run)


def timed(run: Callable[[], None]) -> float:
    """Return the seconds of a second run; the first one is not counted."""
    run()
    started = time.monotonic()
    run()
    return time.monotonic() - started


SIDES = {"limit": limit, "ours": ours, "loader": loader}


def worker(work: tuple[str, argparse.Namespace, Path, list[int], int]) -> float:
    """Run one process of a side; return its seconds."""
    import torch

    side, options, folder, parts, count = work
    if options.device == "cpu":
        torch.set_num_threads(1)
    return SIDES[side](options, folder, parts, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="timm/vit_tiny_patch16_224")
    parser.add_argument("--weights", required=True, help="weights of the model (safetensors)")
    parser.add_argument("--pictures", type=int, default=2048)
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    processes = options.processes if options.device == "cpu" else 1
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = prepare(folder, options.pictures)
        print(
            f"{conditions()} · {options.model}, {options.precision}, batch {BATCH}, {processes} "
            f"processes on {options.device} · {options.pictures} photographs of "
            f"{size / options.pictures / 1000:.0f} kB",
            flush=True,
        )
        shares = [list(range(n, PARTS, processes)) for n in range(processes)]
        count = options.pictures // processes
        rates: dict[str, list[float]] = {side: [] for side in SIDES}
        with context.Pool(processes) as pool:
            for _ in range(REPEATS):
                for side in SIDES:
                    work = [(side, options, folder, share, count) for share in shares]
                    seconds = pool.map(worker, work, chunksize=1)
                    rates[side].append(sum(count / s for s in seconds))
        best = {side: max(of_side) for side, of_side in rates.items()}
        print("| side | images/s (best of 3; all) | share of the limit |\n|---|---|---|")
        for side, of_side in rates.items():
            all_rates = ", ".join(f"{rate:.1f}" for rate in of_side)
            print(f"| {side} | {best[side]:.1f} ({all_rates}) | {best[side] / best['limit']:.3f} |")
        print(f"speed of ours divided by that of the loader: {best['ours'] / best['loader']:.2f}")


if __name__ == "__main__":
    main()
