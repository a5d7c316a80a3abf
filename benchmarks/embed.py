"""Embedding from stored pictures to stored vectors, beside the model alone and a webdataset loader.

    python -m benchmarks.embed [--model timm/vit_tiny_patch16_224] [--weights FILE] [--pictures 2000]
        [--precision bf16] [--device cpu] [--processes 2]

The pictures are crops of scikit-image's photographs, of about 500 px, as JPEG 90. They are fetched into
a store. Then each side runs in one process per core, each with one thread, as Spark runs tasks:

* limit: the model's forward pass on normalised pictures in memory;
* ours: the stage embed, from stored JPEG bytes to stored vectors;
* loader: webdataset, PIL and torchvision's transforms, as in clip-retrieval, and the same model; the
  vectors stay in memory.

All three have the same precision and batch size. On a GPU, each side is one process, and threads or
loader processes prepare its pictures.
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
FRAGMENTS = 4


def photographs(count: int) -> list[bytes]:
    """Return crops of scikit-image's photographs as JPEG, 400 to 600 px on the longer side."""
    from skimage import data

    names = ("astronaut", "coffee", "chelsea", "rocket", "cat")
    originals = [Image.fromarray(getattr(data, name)()).convert("RGB") for name in names]
    rng = np.random.default_rng(0)
    jpegs = []
    for number in range(count):
        image = originals[number % len(originals)]
        share = rng.uniform(0.5, 1.0)
        width, height = int(image.width * share), int(image.height * share)
        left = int(rng.integers(0, image.width - width + 1))
        top = int(rng.integers(0, image.height - height + 1))
        crop = image.crop((left, top, left + width, top + height))
        scale = rng.uniform(400, 600) / max(crop.size)
        size = round(crop.width * scale), round(crop.height * scale)
        out = io.BytesIO()
        crop.resize(size, Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
        jpegs.append(out.getvalue())
    return jpegs


def prepare(folder: Path, count: int) -> int:
    """Write the table of images to a store, and the same pictures to tars; return their bytes."""
    from curation.engine.parallel import InProcess
    from curation.engine.table import open_table
    from curation.flow import plan
    from curation.recipe import parse_recipe
    from curation.runner.step import run_step
    from curation.store.store import Store

    rows = [{"image": data, "uid": str(n)} for n, data in enumerate(photographs(count))]
    pq.write_table(pa.Table.from_pylist(rows), folder / "pairs.parquet")
    columns = {"image": "image", "key": "uid"}
    source = {"name": "web", "role": "pool", "format": "parquet", "columns": columns}
    spec = {
        "name": "embed",
        "sources": [source | {"path": str(folder / "pairs.parquet")}],
        "ingest": {"rows_per_fragment": -(-count // FRAGMENTS)},
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
    """Return the encoder as a recipe has it."""
    from curation.media.encoders.params import EncoderSpec

    return EncoderSpec(model=options.model, weights=options.weights, precision=options.precision)


def limit(options: argparse.Namespace, folder: Path, numbers: list[int], count: int) -> float:
    """Return the seconds of the forward passes alone, for `count` pictures."""
    import torch

    from curation.media.encoders.encoder import load_encoder

    encoder: Any = load_encoder(spec_of(options), options.device)
    model, dtype = encoder.model.model, encoder.model.dtype
    pixels = torch.randn(BATCH, *encoder.blank.shape).to(options.device, dtype=dtype)

    def run() -> None:
        with torch.inference_mode():
            for _ in range(-(-count // BATCH)):
                features = model(pixels)
        features.float().cpu()

    # On every side, the last batch costs a whole pass, even if it is not full.
    return timed(run)


def ours(options: argparse.Namespace, folder: Path, numbers: list[int], count: int) -> float:
    """Return the seconds of the stage embed on fragments of these numbers, until vectors are stored."""
    from curation.engine.table import open_table
    from curation.engine.units import Output, Unit, run_unit
    from curation.stages.embed.params import EmbedParams
    from curation.stages.embed.stage import embed
    from curation.store.store import Store

    store = Store(folder / "store")
    fragments = list(open_table(store, "images").fragments.values())
    params = EmbedParams(encoders={"model": spec_of(options)}, batch_size=BATCH)

    def on_device(images: Any, params: Any) -> Any:
        return embed(images, params=params, device=options.device)

    def run() -> None:
        for number in numbers:
            output = Output("embeddings.model", "work/bench", "work/bench/data", f"{number}")
            inputs = {"images": fragments[number], "params": params}
            run_unit(store, Unit(str(number), on_device, inputs, {"embeddings.model": output}))

    return timed(run)


def loader(options: argparse.Namespace, folder: Path, numbers: list[int], count: int) -> float:
    """Return the seconds of webdataset, PIL, torchvision and the model, for tars of these numbers."""
    import timm
    import torch
    import webdataset

    from curation.media.encoders.encoder import load_encoder

    encoder: Any = load_encoder(spec_of(options), options.device)
    model = encoder.model.model
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    timm_model = timm.create_model(options.model.removeprefix("timm/"), pretrained=False)
    data: Any = timm.data
    config = data.resolve_model_data_config(timm_model)
    transform = data.create_transform(**config, is_training=False)
    tars = [str(folder / f"{number:03d}.tar") for number in numbers]

    def run() -> None:
        images = webdataset.WebDataset(tars, shardshuffle=False).decode("pilrgb").to_tuple("jpg")
        dataset = images.map_tuple(transform).batched(BATCH)
        workers = 0 if options.device == "cpu" else 16
        batches = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=workers)
        vectors = []
        with torch.inference_mode():
            for (pixels,) in batches:
                inputs = pixels.to(options.device, dtype=dtypes[options.precision])
                features = model(inputs).float()
                vectors.append(torch.nn.functional.normalize(features).cpu().numpy())
        np.concatenate(vectors)

    return timed(run)


def timed(run: Callable[[], None]) -> float:
    """Run twice; return the seconds of the second run."""
    run()
    started = time.monotonic()
    run()
    return time.monotonic() - started


SIDES = {"limit": limit, "ours": ours, "loader": loader}


def run_side(task: tuple[str, argparse.Namespace, Path, list[int], int]) -> float:
    """Run a side in this process; return its seconds.

    Args:
        task: the side, the options, the folder, the numbers of fragments, the number of pictures.
    """
    import torch

    side, options, folder, numbers, count = task
    if options.device == "cpu":
        torch.set_num_threads(1)
    return SIDES[side](options, folder, numbers, count)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--model", default="timm/vit_tiny_patch16_224")
    parser.add_argument("--weights", help="safetensors file of the model; default: random weights")
    parser.add_argument("--pictures", type=int, default=2048)
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="the best of them is compared")
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
        shares = [list(range(n, FRAGMENTS, processes)) for n in range(processes)]
        count = options.pictures // processes
        rates: dict[str, list[float]] = {side: [] for side in SIDES}
        with context.Pool(processes) as pool:
            for _ in range(options.repeats):
                for side in SIDES:
                    tasks = [(side, options, folder, share, count) for share in shares]
                    seconds = pool.map(run_side, tasks, chunksize=1)
                    rates[side].append(sum(count / s for s in seconds))
        best = {side: max(side_rates) for side, side_rates in rates.items()}
        print(f"| side | images/s (best of {options.repeats}; all) | of the limit |\n|---|---|---|")
        for side, side_rates in rates.items():
            listed = ", ".join(f"{rate:.1f}" for rate in side_rates)
            print(f"| {side} | {best[side]:.1f} ({listed}) | {best[side] / best['limit']:.3f} |")
        print(f"ours beside the loader: {best['ours'] / best['loader']:.2f}")


if __name__ == "__main__":
    main()
