"""Score `vit_micro`, its teacher and a colour histogram on the web_mini collection.

    python -m training.evaluate_vit_micro --data web_mini --teacher vit_tiny_patch16_224.safetensors

Run it from the root of the repository. Retrieval: the share of the k pool images nearest to each seed
image that have the domain of the seed set, or the label of the seed image. Near-copies: the share of
planted copies above a cosine similarity that few pairs of different images reach.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from curation.media.encoders.vit_micro import WEIGHTS, load_vit_micro
from training.pictures import Vectors, normalise, read_images, student_pixels
from training.teacher import Teacher, in_batches, unit

DOMAINS: Final = {"objects10": "objects"}
"""The pool domain of a seed set, if it differs from the name of the set."""
PUBLISHED: Final = {
    "scenes": (0.91, 0.79),
    "flowers": (0.86, 0.76),
    "textures": (0.84, 0.67),
    "products": (0.99, 0.48),
    "objects10": (0.83, 0.80),
}
"""Domain and label precision of the teacher that the collection documents."""
STRENGTHS: Final = ("exact", "easy", "medium", "hard")
FALSE_POSITIVE_RATES: Final = (1e-4, 1e-5, 1e-6)
BINS: Final = 4


def histogram(image: Image.Image) -> Vectors:
    """Return the square root of a colour histogram of 4 x 4 x 4 bins: [64]."""
    cells = np.asarray(image.resize((64, 64)), dtype=np.int64) * BINS // 256
    codes = (cells[..., 0] * BINS + cells[..., 1]) * BINS + cells[..., 2]
    counts = np.bincount(codes.reshape(-1), minlength=BINS**3)
    result: Vectors = np.sqrt(counts / counts.sum()).astype(np.float32)
    return result


def student_encoder(weights: Path) -> Callable[[Path], Vectors]:
    model = load_vit_micro(weights)

    @torch.inference_mode()
    def encode(pixels: Tensor) -> Tensor:
        result: Tensor = model(normalise(pixels))
        return result

    return lambda path: in_batches(read_images(path), student_pixels, encode)


def histogram_encoder(path: Path) -> Vectors:
    return in_batches(read_images(path), histogram, lambda histograms: histograms)


def retrieval(pool: Vectors, seeds: Vectors, data: Path, k: int) -> dict[str, dict[str, float]]:
    """Return domain and label precision for each seed set, from unit vectors."""
    pool_truth = pq.read_table(data / "pool.parquet", columns=["gt_domain", "gt_label"]).to_pydict()
    seed_truth = pq.read_table(data / "seeds.parquet", columns=["seed_set", "gt_label"]).to_pydict()
    domains, labels = (
        np.array(pool_truth["gt_domain"]),
        np.array(pool_truth["gt_label"], dtype=object),
    )
    nearest = np.argsort(-(seeds @ pool.T), axis=1, kind="stable")[:, :k]
    sets = np.array(seed_truth["seed_set"])
    seed_labels = np.array(seed_truth["gt_label"], dtype=object)
    result = {}
    for name in PUBLISHED:
        rows = np.flatnonzero(sets == name)
        neighbours = nearest[rows]
        result[name] = {
            "domain": float((domains[neighbours] == DOMAINS.get(name, name)).mean()),
            "label": float((labels[neighbours] == seed_labels[rows, None]).mean()),
        }
    return result


def excluded_pairs(data: Path, ids: dict[str, int]) -> set[tuple[int, int]]:
    """Return pairs of pool rows, smaller first, that are or may be copies, so not false positives."""
    planted = pq.read_table(data / "planted_dups.parquet").to_pylist()
    groups: dict[str, set[int]] = {}
    for row in planted:
        members = groups.setdefault(str(row["group"]), set())
        members.update((ids[row["orig_id"]], ids[row["dup_id"]]))
    pairs = {(a, b) for members in groups.values() for a in members for b in members if a < b}
    for row in pq.read_table(data / "natural_pairs.parquet").to_pylist():
        if row["verdict"] != "lookalike" and row["id_a"] in ids and row["id_b"] in ids:
            a, b = sorted((ids[row["id_a"]], ids[row["id_b"]]))
            pairs.add((a, b))
    return pairs


def copies(pool: Vectors, data: Path) -> dict[str, Any]:
    """Compare planted copies with all pairs of different images, from unit vectors."""
    names = pq.read_table(data / "pool.parquet", columns=["id"])["id"].to_pylist()
    ids = {name: row for row, name in enumerate(names)}
    cosines = pool @ pool.T
    for a, b in excluded_pairs(data, ids):
        cosines[a, b] = -2.0
    different = cosines[np.triu_indices(len(pool), 1)]
    different = different[different > -2.0]
    planted = pq.read_table(data / "planted_dups.parquet").to_pylist()
    by_strength: dict[str, Vectors] = {}
    for strength in STRENGTHS:
        rows = [
            (ids[row["orig_id"]], ids[row["dup_id"]])
            for row in planted
            if row["strength"] == strength
        ]
        first, second = np.array(rows).T
        by_strength[strength] = np.sum(pool[first] * pool[second], axis=1)
    result: dict[str, Any] = {"pairs": len(different), "median": {}, "operating_points": []}
    for strength, cosine in by_strength.items():
        result["median"][strength] = float(np.median(cosine))
    points = [(f"{rate:g}", _quantile(different, rate)) for rate in FALSE_POSITIVE_RATES]
    points += [("fixed", value) for value in (0.9, 0.95, 0.97, 0.98)]
    for kind, threshold in points:
        point: dict[str, Any] = {"kind": kind, "threshold": threshold}
        point["false_pairs"] = int((different >= threshold).sum())
        for strength, cosine in by_strength.items():
            point[strength] = float((cosine >= threshold).mean())
        result["operating_points"].append(point)
    return result


def _quantile(values: Vectors, rate: float) -> float:
    # The quantile 1 - rate, by partitioning: np.quantile would sort 32 million values.
    rank = len(values) - max(1, round(rate * len(values)))
    return float(np.partition(values, rank)[rank])


def evaluate(encode: Callable[[Path], Vectors], data: Path, k: int) -> dict[str, Any]:
    pool, seeds = unit(encode(data / "pool.parquet")), unit(encode(data / "seeds.parquet"))
    return {"retrieval": retrieval(pool, seeds, data, k), "copies": copies(pool, data)}


def markdown(results: dict[str, Any]) -> str:
    """Return the results as Markdown: retrieval, then near-copies."""
    models = list(results)
    lines = [
        "| seed set | " + " | ".join(models) + " | student / teacher |",
        "|---" * (len(models) + 2) + "|",
    ]
    for name in PUBLISHED:
        scores = [results[model]["retrieval"][name] for model in models]
        cells = " | ".join(f"{score['domain']:.3f} / {score['label']:.3f}" for score in scores)
        ratio = " / ".join(
            f"{scores[0][kind] / scores[1][kind]:.2f}" for kind in ("domain", "label")
        )
        lines.append(f"| {name} | {cells} | {ratio} |")
    lines += [
        "",
        "| model | cosine at least | chosen by | false pairs | " + " | ".join(STRENGTHS) + " |",
    ]
    lines.append("|---" * (4 + len(STRENGTHS)) + "|")
    for model in models:
        for point in results[model]["copies"]["operating_points"]:
            shares = " | ".join(f"{point[strength]:.2f}" for strength in STRENGTHS)
            head = (
                f"| {model} | {point['threshold']:.4f} | {point['kind']} | {point['false_pairs']} "
            )
            lines.append(f"{head}| {shares} |")
    return "\n".join(lines)


def check_teacher(scores: dict[str, dict[str, float]], tolerance: float = 0.02) -> list[str]:
    """Return where figures of the teacher differ from the documented ones."""
    return [
        f"{name} {kind}: {scores[name][kind]:.3f}, documented {documented}"
        for name, figures in PUBLISHED.items()
        for kind, documented in zip(("domain", "label"), figures, strict=True)
        if abs(scores[name][kind] - documented) > tolerance
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of the web_mini collection"
    )
    parser.add_argument(
        "--teacher", type=Path, required=True, help="weights of the teacher (safetensors)"
    )
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="weights of the student")
    parser.add_argument("--cache", type=Path, help="folder that caches the features of the teacher")
    parser.add_argument("--k", type=int, default=4, help="pool images per seed image")
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], default="cpu", help="device of the teacher"
    )
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    teacher = Teacher(options.teacher, options.device)
    encoders: dict[str, Callable[[Path], Vectors]] = {
        "vit_micro": student_encoder(options.weights),
        "teacher": lambda path: teacher.embed_file(path, options.cache),
        "histogram": histogram_encoder,
    }
    results = {name: evaluate(encode, options.data, options.k) for name, encode in encoders.items()}
    print(markdown(results))
    differences = check_teacher(results["teacher"]["retrieval"])
    print(
        "\nThe teacher reproduces the documented figures."
        if not differences
        else "\nFigures of the teacher differ: " + "; ".join(differences)
    )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
