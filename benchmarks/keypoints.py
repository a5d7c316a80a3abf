"""Matching the keypoints of two pictures: by the product of their descriptors, and by OpenCV.

    python -m benchmarks.keypoints [--rounds 9]

The pictures are photographs of scikit-image, and the same turned and recompressed, at the size at which
`verify` compares them; each is compared with each. Each round runs both sides once, in one thread.
Printed are milliseconds for a pair, their ratio, and the share of matches that both sides have.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import cv2
import numpy as np
from PIL import Image
from skimage import data
from threadpoolctl import threadpool_limits

from benchmarks.command import parse, parser_of
from benchmarks.machine import conditions
from curation.stages.verify.align import MATCH_RATIO, match_keypoints
from curation.stages.verify.blocks import Floats
from curation.stages.verify.reduced_image import ReducedImage, reduce_image

PHOTOGRAPHS = ("astronaut", "cat", "coffee", "rocket", "camera", "coins")
TURNS = (0, 4, 90)
Matches = set[tuple[int, int]]
Match = Callable[[Floats, Floats], Matches]


def descriptors(names: tuple[str, ...]) -> Iterator[Floats]:
    """Yield the descriptors of photographs and of their edits, shape (n, 128) each."""
    for name, turn in product(names, TURNS):
        picture = Image.fromarray(getattr(data, name)()).convert("RGB").rotate(turn)
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=90 - turn // 2)
        small = reduce_image(stream.getvalue())
        keypoints = ReducedImage.of(small).keypoints if small else None
        if keypoints is not None:
            yield keypoints[1]


def by_product(queries: Floats, candidates: Floats) -> Matches:
    """Return the matches of the product."""
    matched, nearest = match_keypoints(queries, candidates)
    return set(zip(matched.tolist(), nearest.tolist(), strict=True))


def by_opencv(queries: Floats, candidates: Floats) -> Matches:
    """Return the matches of OpenCV's search of all pairs."""
    found: Any = cv2.BFMatcher().knnMatch(queries, candidates, k=2)
    good = [pair[0] for pair in found if pair[0].distance < MATCH_RATIO * pair[1].distance]
    return {(match.queryIdx, match.trainIdx) for match in good}


SIDES: dict[str, Match] = {"product": by_product, "OpenCV": by_opencv}


def main() -> None:
    """Print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--photographs", type=int, default=len(PHOTOGRAPHS))
    options = parse(parser, {"rounds": 1, "photographs": 1})
    cv2.setNumThreads(1)
    threadpool_limits(1)
    images = list(descriptors(PHOTOGRAPHS[: options.photographs]))
    pairs = list(product(images, images))
    found = {side: [match(*pair) for pair in pairs] for side, match in SIDES.items()}
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(options.rounds):
        for side, match in SIDES.items():
            start = time.perf_counter()
            for pair in pairs:
                match(*pair)
            seconds[side].append((time.perf_counter() - start) / len(pairs))
    medians = {side: statistics.median(taken) for side, taken in seconds.items()}
    both, either = (
        sum(len(operation(one, two)) for one, two in zip(*found.values(), strict=True))
        for operation in (set.intersection, set.union)
    )
    number = np.mean([len(image) for image in images])
    print(f"{conditions()}\n{len(pairs)} pairs of about {number:.0f} keypoints\n")
    print("| product, ms a pair | OpenCV, ms a pair | ratio | matches in both |\n|---|---|---|---|")
    by_side = [f"{1e3 * medians[side]:.2f}" for side in SIDES]
    ratio = medians["OpenCV"] / medians["product"]
    print(f"| {by_side[0]} | {by_side[1]} | {ratio:.1f} | {both / either:.4f} |")


if __name__ == "__main__":
    main()
