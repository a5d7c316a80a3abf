"""A stored JPEG keeps the tables that its scans read, and no others, in which anything could stand."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curation.media.pictures.jpeg import FRAMES, segments
from curation.media.pictures.jpeg_strip import stripped
from curation.media.pictures.upright import make_upright

from .files import PICTURE, encode, segment

SECRET = b"48.2082 N, 16.3738 E, by A. Person, at home in the evening of a day. "
FILES: dict[str, bytes] = {
    "baseline": encode(PICTURE),
    "optimized": encode(PICTURE, optimize=True),
    "progressive": encode(PICTURE, progressive=True),
    "grey": encode(PICTURE.convert("L")),
    "grey, progressive": encode(PICTURE.convert("L"), progressive=True),
    "four colours": encode(PICTURE.convert("CMYK")),
    "restarts": encode(PICTURE, restart_marker_blocks=4),
}


def quantization(rng: random.Random) -> bytes:
    """A segment with one to three tables of hidden text, of numbers that a file uses or not."""
    tables = b""
    for _ in range(rng.randint(1, 3)):
        wide = rng.randint(0, 1)
        text = (SECRET * 2)[: 128 if wide else 64]
        tables += bytes((wide << 4 | rng.randint(0, 3),)) + text
    return segment(0xDB, tables)


def huffman(rng: random.Random) -> bytes:
    """A segment with a table of hidden text."""
    counts = bytes(15) + bytes((len(SECRET),))
    return segment(0xC4, bytes((rng.choice((0, 0x10)) | rng.randint(0, 3),)) + counts + SECRET)


def arithmetic(_: random.Random) -> bytes:
    """A segment of the conditions of arithmetic coding, which the file does not use."""
    return segment(0xCC, SECRET + b" " * (len(SECRET) % 2))


DECOYS: list[Callable[[random.Random], bytes]] = [quantization, huffman, arithmetic]


def pixels(content: bytes) -> Any:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_reads_all_its_tables_stays_as_it_is(name: str) -> None:
    assert stripped(FILES[name]) == FILES[name]


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(FILES)), seed=st.integers(0, 10**6))
def test_tables_that_no_scan_reads_are_dropped(name: str, seed: int) -> None:
    """They stand before the real ones, which replace those of their number."""
    rng, content = random.Random(seed), FILES[name]
    first = next(s.start for s in segments(content) if s.marker in FRAMES | {0xDB, 0xC4})
    hidden = b"".join(rng.choice(DECOYS)(rng) for _ in range(rng.randint(1, 4)))
    kept = stripped(content[:first] + hidden + content[first:])
    assert kept == content
    assert (pixels(kept) == pixels(content)).all()


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(FILES)), seed=st.integers(0, 10**6))
def test_tables_after_the_last_scan_are_dropped(name: str, seed: int) -> None:
    rng, content = random.Random(seed), FILES[name]
    hidden = b"".join(rng.choice(DECOYS)(rng) for _ in range(rng.randint(1, 4)))
    assert stripped(content[:-2] + hidden + content[-2:]) == content


def test_a_new_quantization_between_scans_is_not_read() -> None:
    """The first scan of a component decides its quantization."""
    content = FILES["progressive"]
    second = content.index(b"\xff\xda", content.index(b"\xff\xda") + 2)
    second = content.rindex(b"\xff\xc4", 0, second)
    table = bytes((0,)) + SECRET[:64]
    assert stripped(content[:second] + segment(0xDB, table) + content[second:]) == content


@pytest.mark.parametrize("marker", [0xDC, 0xDE, 0xDF, 0xF0, 0x01])
def test_other_segments_between_scans_are_dropped(marker: int) -> None:
    content = FILES["progressive"]
    second = content.rindex(b"\xff\xc4")
    assert stripped(content[:second] + segment(marker, SECRET) + content[second:]) == content


@pytest.mark.parametrize(
    "odd",
    [
        segment(0xDD, b"\0\0" + SECRET),
        segment(0xDB, bytes((0,)) + SECRET[:20]),
        segment(0xC4, bytes((0,)) + bytes(15) + b"\xff" + SECRET),
    ],
    ids=["restarts with more", "quantization cut off", "codes cut off"],
)
def test_a_segment_with_more_or_less_is_encoded_anew(odd: bytes) -> None:
    content = FILES["baseline"]
    assert stripped(content[:2] + odd + content[2:]) is None


def test_headers_with_more_than_their_components_are_encoded_anew() -> None:
    content = FILES["baseline"]
    for marker in (0xC0, 0xDA):
        (found,) = (s for s in segments(content) if s.marker == marker)
        body = content[found.start + 4 : found.end]
        longer = content[: found.start] + segment(marker, body + SECRET) + content[found.end :]
        assert stripped(longer) is None


@pytest.mark.parametrize("name", FILES)
def test_what_is_stored_shows_the_same_picture(name: str) -> None:
    content = FILES[name]
    hidden = content[:2] + quantization(random.Random(1)) + content[2:]
    plain, image = (make_upright(c, 10**8) for c in (content, hidden))
    assert (np.asarray(plain.pixels) == np.asarray(image.pixels)).all()
    assert SECRET[:30] not in (image.original or b"")
