"""Embedding end to end, beside the model alone and beside a loader in the manner of clip-retrieval.

    python -m benchmarks.embed [--model timm/vit_tiny_patch16_224] [--weights FILE] [--pictures 2000]
        [--precision bf16] [--device cpu] [--processes 2]

Photographs of about 500 px (crops of those that scikit-image brings, JPEG 90) are fetched into a store.
Then, in as many processes as there are cores, each with one thread, as Spark runs tasks:

* the limit: the model's forward pass on normalised pictures that lie in memory;
* ours: the stage embed from stored JPEG bytes to stored vectors;
* the loader: webdataset, PIL and torchvision's transforms in front of the same model, vectors kept.

All three have the same precision and batch. On a GPU there is one process, and threads prepare for it.
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

from benchmarks.command import parse, parser_of
from benchmarks.machine import conditions

BATCH = 64
PARTS = 4


def photographs(count: int) -> list[bytes]:
    """Crops of scikit-image's photographs, resized to 400 to 600 px on the longer side, as JPEG."""
    from skimage import data

    names = ("astronaut", "coffee", "chelsea", "rocket", "cat")
    whole = [Image.fromarray(getattr(data, name)()).convert("RGB") for name in names]
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        image = whole[number % len(whole)]
        part = rng.uniform(0.5, 1.0)
        wide, high = int(image.width * part), int(image.height * part)
        left = int(rng.integers(0, image.width - wide + 1))
        top = int(rng.integers(0, image.height - high + 1))
        crop = image.crop((left, top, left + wide, top + high))
        scale = rng.uniform(400, 600) / max(crop.size)
        size = round(crop.width * scale), round(crop.height * scale)
        out = io.BytesIO()
        crop.resize(size, Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
        found.append(out.getvalue())
    return found


def prepare(folder: Path, count: int) -> int:
    """Write the store with its table of images, and the same pictures as tars; return their bytes."""
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


def random_weights(model: str, folder: Path) -> str:
    """Write random weights of a timm model; return the file."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    state = timm.create_model(model.removeprefix("timm/"), pretrained=False).state_dict()
    path = folder / "random.safetensors"
    save_file({name: weight.contiguous() for name, weight in state.items()}, path)
    return str(path)


def spec_of(options: argparse.Namespace) -> Any:
    """The encoder as a recipe has it."""
    from curation.media.encoders.params import EncoderSpec

    return EncoderSpec(model=options.model, weights=options.weights, precision=options.precision)


def limit(options: argparse.Namespace, folder: Path, parts: list[int], count: int) -> float:
    """Seconds of the forward passes alone."""
    import torch

    from curation.media.encoders.encoder import load_encoder

    encoder: Any = load_encoder(spec_of(options), options.device)
    model, kind = encoder.model.model, encoder.model.kind
    pixels = torch.randn(BATCH, *encoder.blank.shape).to(options.device, dtype=kind)

    def run() -> None:
        with torch.inference_mode():
            for _ in range(-(-count // BATCH)):
                features = model(pixels)
        features.float().cpu()

    # A part of a last batch is a whole pass on either side.
    return timed(run)


def ours(options: argparse.Namespace, folder: Path, parts: list[int], count: int) -> float:
    """Seconds of the stage, its files written."""
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
            given = {"images": fragments[number], "params": params}
            run_unit(store, Unit(str(number), on_device, given, {"embeddings.model": output}))

    return timed(run)


def loader(options: argparse.Namespace, folder: Path, parts: list[int], count: int) -> float:
    """Seconds of webdataset, PIL and torchvision in front of the same model."""
    import timm
    import torch
    import webdataset

    from curation.media.encoders.encoder import load_encoder

    encoder: Any = load_encoder(spec_of(options), options.device)
    model = encoder.model.model
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[options.precision]
    plain = timm.create_model(options.model.removeprefix("timm/"), pretrained=False)
    data: Any = timm.data
    transform = data.create_transform(**data.resolve_model_data_config(plain), is_training=False)
    tars = [str(folder / f"{number:03d}.tar") for number in parts]

    def run() -> None:
        pairs = webdataset.WebDataset(tars, shardshuffle=False).decode("pilrgb").to_tuple("jpg")
        pairs = pairs.map_tuple(transform).batched(BATCH)
        workers = 0 if options.device == "cpu" else 16
        every = []
        with torch.inference_mode():
            for (pixels,) in torch.utils.data.DataLoader(
                pairs, batch_size=None, num_workers=workers
            ):
                features = model(pixels.to(options.device, dtype=kind)).float()
                every.append(torch.nn.functional.normalize(features).cpu().numpy())
        np.concatenate(every)

    return timed(run)


def timed(run: Callable[[], None]) -> float:
    """Seconds of a run after a first one that is not counted."""
    run()
    started = time.monotonic()
    run()
    return time.monotonic() - started


SIDES = {"limit": limit, "ours": ours, "loader": loader}


def worker(work: tuple[str, argparse.Namespace, Path, list[int], int]) -> float:
    """One process of a side."""
    import torch

    side, options, folder, parts, count = work
    if options.device == "cpu":
        torch.set_num_threads(1)
    return SIDES[side](options, folder, parts, count)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--model", default="timm/vit_tiny_patch16_224")
    parser.add_argument("--weights", help="safetensors of that model; default: random ones")
    parser.add_argument("--pictures", type=int, default=2048)
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="the best of them counts")
    tiny = {
        "model": "timm/test_vit",
        "pictures": 32,
        "processes": 1,
        "repeats": 1,
        "precision": "fp32",
    }
    options = parse(parser, tiny)
    processes = options.processes if options.device == "cpu" else 1
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options.weights = options.weights or random_weights(options.model, folder)
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
            for _ in range(options.repeats):
                for side in SIDES:
                    work = [(side, options, folder, share, count) for share in shares]
                    seconds = pool.map(worker, work, chunksize=1)
                    rates[side].append(sum(count / s for s in seconds))
        best = {side: max(found) for side, found in rates.items()}
        print(f"| side | images/s (best of {options.repeats}; all) | of the limit |\n|---|---|---|")
        for side, found in rates.items():
            every = ", ".join(f"{rate:.1f}" for rate in found)
            print(f"| {side} | {best[side]:.1f} ({every}) | {best[side] / best['limit']:.3f} |")
        print(f"ours beside the loader: {best['ours'] / best['loader']:.2f}")


if __name__ == "__main__":
    main()
