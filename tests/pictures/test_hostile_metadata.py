"""Metadata that is broken, huge, nested or random is read in bounded time, to columns."""

from __future__ import annotations

import json
import random
import struct
import time
import zlib
from collections.abc import Callable

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.media.pictures.metadata.columns import metadata_columns
from curation.media.pictures.upright import make_upright
from tests.pictures.files import PICTURE, chunk, encode, with_chunks
from tests.pictures.metadata_files import ALL, FILES, MINING, RIGHTS, of_packet, xmp

KINDS = ("jpeg", "png", "webp", "gif", "tiff", "avif", "jpeg2000", "jxl", "heic")


def entity_bomb() -> bytes:
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    head = f'<!DOCTYPE x [<!ENTITY e0 "lol">{levels}<!ENTITY f SYSTEM "file:///etc/passwd">]>'
    body = "<dc:rights>&e11;&f;</dc:rights>"
    return xmp(head + body) + head.encode() + xmp(body)


BOMBS: dict[str, Callable[[], bytes]] = {
    "entities": entity_bomb,
    "depth": lambda: b"<rdf:RDF>" + b"<dc:rights>" * 500_000,
    "attributes": lambda: xmp("", " ".join(f'a{n}="1"' for n in range(100_000))),
    "fields": lambda: xmp("<dc:rights>r</dc:rights>" * 100_000),
    "long": lambda: xmp(f"<dc:rights>{'r' * 5_000_000}</dc:rights>"),
    "packets": lambda: xmp(RIGHTS) * 10_000,
    "values": lambda: xmp("DMI-PROHIBITED " * 100_000),
    "NUL and escapes": lambda: xmp("<dc:rights>a\0\x1b[31m\u202eb</dc:rights>"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_metadata_is_bounded(name: str) -> None:
    packet, started = BOMBS[name](), time.process_time()
    columns = of_packet(packet)
    assert time.process_time() - started < 2
    text = json.dumps(columns)
    assert len(text) < 5000 and "root:" not in text and "lollol" not in text
    assert all(ord(c) >= 32 for v in columns.values() if isinstance(v, str) for c in v)


def test_of_xmp_so_many_packets_of_such_a_size_are_read() -> None:
    packets = [xmp(f"<dc:rights>r{n}</dc:rights>") for n in range(9)]
    assert of_packet(b"".join(packets))["rights"] == "; ".join(f"r{n}" for n in range(8))
    for history, found in ((2**20 - 2_000, "r"), (2**20, None)):
        packet = xmp(f"<x:h>{'h' * history}</x:h><dc:rights>r</dc:rights>", attributes="")
        assert of_packet(packet)["rights"] == found


def test_chunks_that_unpack_to_gigabytes_are_bounded() -> None:
    bomb = zlib.compress(bytes(100_000_000), 9)
    chunks = [chunk(b"zTXt", b"Copyright\0\0" + bomb), chunk(b"iTXt", b"Author\0\1\0\0\0" + bomb)]
    started = time.process_time()
    metadata_columns(with_chunks(encode(PICTURE, "PNG"), *chunks * 3), "png", ALL)
    assert time.process_time() - started < 2


def test_thousands_of_chunks_that_unpack_are_bounded() -> None:
    bomb = chunk(b"zTXt", b"Copyright\0\0" + zlib.compress(bytes(2**20), 9))
    picture = with_chunks(encode(PICTURE, "PNG"), *[bomb] * 9_000)
    started = time.process_time()
    metadata_columns(picture, "png", ALL)
    assert time.process_time() - started < 2


def box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", len(data) + 8, kind) + data


def test_compressed_boxes_are_bounded_and_read_as_far_as_they_are_sound() -> None:
    start = b"\0\0\0\x0cJXL \r\n\x87\n"
    bomb = box(b"brob", b"xml " + brotli.compress(bytes(50_000_000), quality=5))
    started = time.process_time()
    metadata_columns(start + bomb * 500, "jxl", ALL)
    assert time.process_time() - started < 2
    packed = box(b"brob", b"xml " + brotli.compress(xmp(RIGHTS)))
    broken = box(b"brob", b"xml \xff\xff\xff") + box(b"brob", b"") + box(b"free", b"")
    for content in (packed, broken + packed, packed + packed[:-3], packed + b"\0\0\0\1jxlc"):
        found = metadata_columns(start + content, "jxl", ALL)
        assert found["data_mining"] == "DMI-PROHIBITED-AIMLTRAINING" and found["rights"]


@given(kind=st.sampled_from(KINDS), content=st.binary(max_size=300), number=st.integers(0, 14))
def test_metadata_of_any_bytes_is_columns(kind: str, content: bytes, number: int) -> None:
    starts = (
        b"",
        b"\xff\xd8\xff\xe1",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\0\0\0\0WEBP",
        b"II*\0\x08\0\0\0",
    )
    metadata_columns(starts[number % len(starts)] + content, kind, ALL)


def mutants(seconds: float, seed: int) -> int:
    """Read the metadata of mutated files for some time; return of how many."""
    rng, count, end = random.Random(seed), 0, time.monotonic() + seconds
    made = [make() for make in FILES.values()]
    files = [(make_upright(content, 10**6).format, content) for content in made]
    while time.monotonic() < end:
        kind, content = rng.choice(files)
        mutant = bytearray(content)
        for _ in range(rng.choice((1, 2, 8, 64))):
            mutant[rng.randrange(min(len(mutant), rng.choice((64, 2000, len(mutant)))))] = (
                rng.choice((0, 1, 255, rng.randrange(256)))
            )
        columns = metadata_columns(bytes(mutant), kind, ALL)
        assert len(json.dumps(columns)) < 20_000
        count += 1
    return count


def test_metadata_of_mutated_files_is_columns() -> None:
    assert mutants(1.5, seed=1) > 50


@pytest.mark.nightly
def test_metadata_of_many_mutated_files_is_columns() -> None:
    assert mutants(120, seed=random.randrange(2**32)) > 5000


@pytest.mark.parametrize(
    "broken",
    [
        chunk(b"zTXt", b"Comment\0\0no zlib"),
        chunk(b"iTXt", b"Comment\0\1\0\0\0no zlib"),
        chunk(b"tEXt", b"Raw profile type exif\0\nexif\n4\nno digits"),
        chunk(b"tEXt", b""),
    ],
)
def test_a_broken_chunk_hides_none_of_those_behind_it(broken: bytes) -> None:
    good = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(RIGHTS))
    picture = with_chunks(encode(PICTURE, "PNG"), broken, good)
    assert metadata_columns(picture, "png", ALL)["rights"]


@pytest.mark.parametrize("history", [0, 2 * 2**20, 12 * 2**20])
@pytest.mark.parametrize("is_packed", [False, True])
def test_an_opt_out_counts_after_a_long_history(history: int, is_packed: bool) -> None:
    """Editors keep the history of a picture in its packet."""
    ancestors = f"<x:DocumentAncestors>{'a1b2c3d4' * (history // 8)}</x:DocumentAncestors>"
    mining = f'<plus:DataMining rdf:resource="{MINING}"/>'
    packet = xmp(ancestors + mining, attributes="")
    packed = b"\1\0\0\0" + zlib.compress(packet) if is_packed else bytes(4) + packet
    picture = with_chunks(encode(PICTURE, "PNG"), chunk(b"iTXt", b"XML:com.adobe.xmp\0" + packed))
    boxes = (
        box(b"brob", b"xml " + brotli.compress(packet, quality=4))
        if is_packed
        else box(b"xml ", packet)
    )
    for content, kind in ((picture, "png"), (b"\0\0\0\x0cJXL \r\n\x87\n" + boxes, "jxl")):
        columns = metadata_columns(content, kind, ALL)
        assert columns["data_mining"] == MINING.rpartition("/")[2]
