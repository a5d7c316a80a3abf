"""Decoding in a process of its own beside decoding in this process, interleaved, in one run.

    python -m benchmarks.decoder                   # pictures of 10, 150 and 3,000 kB, and PNGs
    python -m benchmarks.decoder --tiny

Each picture becomes its stored image: 512 pixels on the longer side, JPEG 95. Three ways take turns on
batches of the same pictures: `plain` decodes, resizes and encodes in this process; `here` also reads
metadata; `apart` does what fetch does, and asks the process that decodes pictures, several at a time
where they are small. Seconds are those of
the clock; the last column is the processor time of both processes (plain · here · apart). The ratios
are medians over rounds; `apart / plain` contains the cost of reading metadata.
"""

from __future__ import annotations

import io
import os
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
import psutil
from PIL import Image

from benchmarks.command import parse, parser_of
from benchmarks.machine import conditions
from curation.media.pictures.decoder import Decoder, Outcome
from curation.media.pictures.decoder_messages import Message
from curation.media.pictures.upright import make_upright
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.picture import header_of, store_picture
from curation.stages.fetch.stored_image import most_bytes, store_image

PARAMS = FetchParams()
HEADER = header_of(PARAMS)
PICTURES = 8


class Corpus(NamedTuple):
    """Pictures of one kind: width in pixels, format, and how many batches of PICTURES a round has."""

    width: int
    kind: str
    batches: int


CORPORA = {
    "small JPEG": Corpus(160, "JPEG", 100),
    "JPEG": Corpus(1000, "JPEG", 6),
    "large JPEG": Corpus(4000, "JPEG", 1),
    "PNG": Corpus(1000, "PNG", 2),
}
TINY = {"small JPEG": Corpus(160, "JPEG", 1)}


def picture(number: int, corpus: Corpus) -> bytes:
    """Return a file that compresses about as well as a photograph."""
    rng, width = np.random.default_rng(number), corpus.width
    coarse = rng.integers(0, 255, (width // 8, width // 8, 3), np.uint8)
    image = Image.fromarray(coarse).resize((width, width * 3 // 4), Image.Resampling.BICUBIC)
    noisy = np.asarray(image).astype(np.int16) + rng.normal(0, 6, (width * 3 // 4, width, 3))
    out = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(out, corpus.kind, quality=85)
    return out.getvalue()


def _plain(files: list[bytes]) -> list[bytes]:
    uprights = (make_upright(content, PARAMS.max_pixels) for content in files)
    return [store_image(upright, [], PARAMS).content for upright in uprights]


def _here(files: list[bytes]) -> list[bytes]:
    return [store_picture(HEADER, content).content for content in files]


def _apart(files: list[bytes]) -> list[bytes]:
    outcomes: list[Outcome] = []
    with Decoder(store_picture, most=most_bytes(PARAMS)) as decoder:
        for content in files:
            decoder.ask(Message(HEADER, content), outcomes.append)
    return [outcome.content for outcome in outcomes if isinstance(outcome, Message)]


WAYS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "plain": _plain,
    "here": _here,
    "apart": _apart,
}


def processor_s() -> float:
    """Return the seconds of processor of this process and of those that it has started."""
    me = psutil.Process(os.getpid())
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def compare(corpus: Corpus, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return the seconds of the clock and of the processor of each way, for each round."""
    files = [picture(n, corpus) for n in range(PICTURES)]
    for name, way in WAYS.items():
        assert way(files) == _plain(files), name
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for number in range(rounds):
        # Each way is the first of a round equally often.
        names = list(WAYS)[number % len(WAYS) :] + list(WAYS)[: number % len(WAYS)]
        for name in names:
            started, used = time.perf_counter(), processor_s()
            WAYS[name](files * corpus.batches)
            measured[name].append((time.perf_counter() - started, processor_s() - used))
    return measured


def main() -> None:
    """Compare the ways, and print a table."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parse(parser)
    # A task has one core, and so has the process that decodes.
    cv2.setNumThreads(1)
    corpora, rounds = (TINY, 3) if arguments.tiny else (CORPORA, arguments.rounds)
    print(f"{conditions()}\n")
    print(
        "| pictures | plain ms | here ms | apart ms | apart / plain | apart / here | processor, ms |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, corpus in corpora.items():
        measured = compare(corpus, rounds)
        count = PICTURES * corpus.batches
        clock = {way: [seconds for seconds, _ in values] for way, values in measured.items()}
        used = {way: [seconds for _, seconds in values] for way, values in measured.items()}
        cells = [f"{statistics.median(clock[way]) / count * 1000:.2f}" for way in WAYS]
        for base in ("plain", "here"):
            pairs = zip(clock["apart"], clock[base], strict=True)
            cells.append(f"{statistics.median(apart / other for apart, other in pairs):.3f}")
        cells.append(
            " · ".join(f"{statistics.median(used[way]) / count * 1000:.2f}" for way in WAYS)
        )
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
