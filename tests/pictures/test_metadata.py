"""Stored pictures carry no metadata; what it says is in columns."""

from __future__ import annotations

import io
import json
import random
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, JpegImagePlugin, PngImagePlugin

from curation.media.pictures.jpeg_strip import stripped
from curation.media.pictures.metadata.columns import metadata_columns
from curation.media.pictures.upright import make_upright
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.picture import header_of, store_picture
from tests.pictures.files import PICTURE, chunk, encode, segment, with_chunks, with_segments

SECRET = "Secret Person"
MINING = "http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED-AIMLTRAINING"
ALL = ("camera", "creator", "description", "taken")


def xmp(inner: str = "", attributes: str = f'plus:DataMining="{MINING}"') -> bytes:
    """An XMP packet with one description."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        'xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:xmpRights="http://ns.adobe.com/xap/1.0/rights/" rdf:about="" '
        f"{attributes}>{inner}</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


RIGHTS = (
    '<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">© Ö &amp; Co</rdf:li></rdf:Alt></dc:rights>'
    f"<dc:creator><rdf:Seq><rdf:li>{SECRET}</rdf:li></rdf:Seq></dc:creator>"
)
PACKET = xmp(RIGHTS)


def exif() -> Image.Exif:
    """EXIF with a place, a preview and names."""
    tags = Image.Exif()
    tags[0x010E], tags[0x013B], tags[0x8298] = "a description", SECRET, "(c) Exif"
    tags[0x010F], tags[0x0110] = "Canon", "EOS"
    tags.get_ifd(0x8769)[0x9003] = "2020:01:02 03:04:05"
    tags.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.0), 3: "E", 4: (2.0, 17.0, 40.0)})
    return tags


def iptc(*datasets: tuple[int, bytes]) -> bytes:
    """Photoshop's resources with IPTC."""
    data = b"".join(
        bytes((0x1C, 2, number)) + struct.pack(">H", len(text)) + text for number, text in datasets
    )
    return b"8BIM\x04\x04\0\0" + struct.pack(">I", len(data)) + data + b"\0" * (len(data) % 2)


IPTC = iptc((116, "© Iptc".encode()), (110, b"Credit Line"), (80, SECRET.encode()))
C2PA_BOX = b"\0\0\0\x50jumb\0\0\0\x1ejumdc2pa\0\x11\0\x10\x80\0\0\xaa\0\x38\x9b\x71\3c2pa\0"
C2PA = b"JP\0\1\0\0\0\1" + C2PA_BOX


def jpeg(**options: Any) -> bytes:
    """A JPEG with every kind of metadata."""
    whole = encode(PICTURE, exif=exif(), xmp=PACKET, comment=SECRET.encode(), **options)
    preview = encode(PICTURE.resize((80, 60)))
    return (
        with_segments(
            whole,
            segment(0xED, b"Photoshop 3.0\0" + IPTC),
            segment(0xEB, C2PA),
            segment(0xE0, b"JFXX\0\x10" + preview),
            segment(0xEC, b"Ducky" + SECRET.encode()),
            segment(0xEF, SECRET.encode()),
            segment(0xEE, b"Not Adobe " + SECRET.encode()),
        )
        + preview
        + SECRET.encode()
    )


def png(packed: bool) -> bytes:
    """A PNG with every kind of metadata, packed or not."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", PACKET.decode(), zip=packed)
    info.add_text("Copyright", "© Text", zip=packed)
    info.add_text("Author", SECRET, zip=packed)
    digits = f"\niptc\n{len(IPTC):8}\n{IPTC.hex()}\n"
    info.add_text("Raw profile type iptc", digits, zip=packed)
    whole = encode(PICTURE, "PNG", pnginfo=info, exif=exif())
    return with_chunks(whole, chunk(b"caBX", C2PA_BOX), chunk(b"prIv", SECRET.encode())) + b"after"


def webp() -> bytes:
    whole = encode(PICTURE, "WEBP", quality=95, exif=exif(), xmp=PACKET)
    body = whole[8:] + b"C2PA" + struct.pack("<I", 8) + b"manifest"
    return b"RIFF" + struct.pack("<I", len(body)) + body + SECRET.encode()


def gif() -> bytes:
    whole = encode(PICTURE.quantize(256), "GIF", comment=SECRET.encode())
    blocks = b"!\xff\x0bXMP DataXMP" + PACKET + b"\1" + bytes(range(255, -1, -1)) + b"\0"
    return whole[:-1] + blocks + b"!\xff\x0bC2PA_GIF\1\0\0\1x\0" + whole[-1:] + SECRET.encode()


def tiff() -> bytes:
    tags = {700: PACKET, 33723: IPTC, 33432: "(c) Exif", 315: SECRET, 0xCD41: b"manifest"}
    return encode(PICTURE, "TIFF", tiffinfo=tags)


def avif() -> bytes:
    box = b"uuid" + bytes.fromhex("d8fec3d61b0e483c92975828877ec481") + b"manifest"
    whole = encode(PICTURE, "AVIF", exif=exif(), xmp=PACKET)
    return whole + struct.pack(">I", len(box) + 4) + box


FILES: dict[str, Callable[[], bytes]] = {
    "jpeg": jpeg,
    "progressive": lambda: jpeg(progressive=True),
    "restarts": lambda: jpeg(restart_marker_rows=1),
    "4:2:0": lambda: jpeg(subsampling=2, quality=60),
    "optimised": lambda: jpeg(optimize=True),
    "png": lambda: png(packed=False),
    "packed png": lambda: png(packed=True),
    "webp": webp,
    "gif": gif,
    "tiff": tiff,
    "avif": avif,
    "jpeg2000": lambda: encode(PICTURE, "JPEG2000") + struct.pack(">I", 28) + b"uuid" + bytes(20),
    "bmp": lambda: encode(PICTURE, "BMP") + SECRET.encode(),
    "ppm": lambda: encode(PICTURE, "PPM") + SECRET.encode(),
    "ico": lambda: encode(PICTURE, "ICO") + SECRET.encode(),
}
STRIPPED = ["jpeg", "progressive", "restarts", "4:2:0", "optimised"]
KINDS = ("jpeg", "png", "webp", "gif", "tiff", "avif", "jpeg2000", "jxl", "heic")


def stored(content: bytes, **params: Any) -> tuple[dict[str, Any], bytes]:
    """The columns and the stored image of a file."""
    recipe = FetchParams.model_validate({"resize": {"mode": "no"}} | params)
    answer = store_picture(header_of(recipe), content)
    assert answer.header["reason"] is None
    return answer.header["columns"], answer.content


def foreign_segments(content: bytes) -> list[str]:
    """The markers of a JPEG that are neither of its pixels nor of its colours."""
    with Image.open(io.BytesIO(content)) as image:
        assert not image.getexif() and "comment" not in image.info and "xmp" not in image.info
        assert isinstance(image, JpegImagePlugin.JpegImageFile)
        names = [name for name, _ in image.applist]
    assert content.endswith(b"\xff\xd9")
    return [name for name in names if name not in ("APP0", "APP14")]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("size", [16, 512])
def test_stored_pictures_carry_no_metadata(name: str, size: int) -> None:
    content = FILES[name]()
    _, image = stored(content, resize={"size": size}, keep_metadata=list(ALL))
    assert foreign_segments(image) == []
    for text in (SECRET.encode(), b"DMI-", b"Exif", b"8BIM", b"c2pa", b"ICC_PROFILE", b"JFXX"):
        assert text not in image, text
    assert image.count(b"\xff\xd8\xff") == 1


@pytest.mark.parametrize(
    "name", [name for name in FILES if make_upright(FILES[name](), 10**8).original]
)
def test_stripping_changes_no_pixel_and_makes_no_file_larger(name: str) -> None:
    content = FILES[name]()
    _, image = stored(content)
    assert len(image) < len(content)
    assert (simplejpeg.decode_jpeg(image) == simplejpeg.decode_jpeg(content)).all()
    with Image.open(io.BytesIO(image)) as after, Image.open(io.BytesIO(content)) as before:
        assert (np.asarray(after) == np.asarray(before)).all()
    assert stripped(image) == image


def test_jpegs_that_need_no_change_are_stripped_and_not_encoded_anew() -> None:
    kept = [name for name in FILES if make_upright(FILES[name](), 10**8).original]
    assert kept == STRIPPED


@pytest.mark.parametrize("transform", [0, 1])
def test_the_marker_of_adobe_is_kept_since_it_decides_the_colours(transform: int) -> None:
    adobe = b"Adobe\0\x64\0\0\0\0" + bytes((transform,))
    plain = encode(PICTURE)
    content = plain[:2] + segment(0xEE, adobe + SECRET.encode()) + plain[20:]
    _, image = stored(content)
    assert SECRET.encode() not in image and adobe in image
    assert (simplejpeg.decode_jpeg(image) == simplejpeg.decode_jpeg(content)).all()


def test_segments_between_scans_are_dropped_too() -> None:
    content = encode(PICTURE, progressive=True)
    second = content.index(b"\xff\xda", content.index(b"\xff\xda") + 2)
    second = content.rindex(b"\xff\xc4", 0, second)
    hidden = content[:second] + segment(0xFE, SECRET.encode()) + content[second:]
    _, image = stored(hidden)
    assert image == content


def test_a_file_with_very_many_scans_is_encoded_anew() -> None:
    content = encode(PICTURE, progressive=True)
    last, end = content.rindex(b"\xff\xda"), content.rindex(b"\xff\xd9")
    assert stripped(content[:end] + content[last:end] * 20 + content[end:]) is None


@pytest.mark.parametrize(
    ("name", "rights", "credit", "c2pa"),
    [
        ("jpeg", {"© Ö & Co", "(c) Exif", "© Iptc"}, "Credit Line", True),
        ("png", {"© Ö & Co", "(c) Exif", "© Iptc", "© Text"}, "Credit Line", True),
        ("packed png", {"© Ö & Co", "(c) Exif", "© Iptc", "© Text"}, "Credit Line", True),
        ("webp", {"© Ö & Co", "(c) Exif"}, None, True),
        ("gif", {"© Ö & Co"}, None, True),
        ("tiff", {"© Ö & Co", "(c) Exif", "© Iptc"}, "Credit Line", True),
        ("avif", {"© Ö & Co", "(c) Exif"}, None, True),
    ],
)
def test_what_metadata_says_is_in_columns(
    name: str, rights: set[str], credit: str | None, c2pa: bool
) -> None:
    columns, _ = stored(FILES[name]())
    assert columns["data_mining"] == "DMI-PROHIBITED-AIMLTRAINING"
    assert set(columns["rights"].split("; ")) == rights
    assert (columns["credit"], columns["has_c2pa"]) == (credit, c2pa)
    assert columns["kept_metadata"] is None


def test_a_recipe_may_keep_more_as_a_column() -> None:
    columns, _ = stored(jpeg(), keep_metadata=["camera", "taken", "creator", "description"])
    assert json.loads(columns["kept_metadata"]) == {
        "camera": "Canon; EOS",
        "creator": SECRET,
        "description": "a description",
        "taken": "2020:01:02 03:04:05",
    }
    columns, _ = stored(jpeg(), keep_metadata=["camera"])
    assert json.loads(columns["kept_metadata"]) == {"camera": "Canon; EOS"}
    columns, _ = stored(encode(PICTURE), keep_metadata=["camera"])
    assert columns["kept_metadata"] is None


def of_packet(packet: bytes) -> dict[str, str | bool | None]:
    """The columns of a PNG with a packet."""
    text = b"XML:com.adobe.xmp\0\0\0\0\0" + packet
    return metadata_columns(with_chunks(encode(PICTURE, "PNG"), chunk(b"iTXt", text)), "png", ALL)


DATA_MINING = {
    "attribute": (xmp(), "DMI-PROHIBITED-AIMLTRAINING"),
    "element": (
        xmp(f"<plus:DataMining>{MINING}</plus:DataMining>", ""),
        "DMI-PROHIBITED-AIMLTRAINING",
    ),
    "resource": (
        xmp(f'<plus:DataMining rdf:resource="{MINING}"/>', ""),
        "DMI-PROHIBITED-AIMLTRAINING",
    ),
    "extension of IPTC": (
        xmp("<Iptc4xmpExt:DataMining>DMI-PROHIBITED</Iptc4xmpExt:DataMining>", ""),
        "DMI-PROHIBITED",
    ),
    "another prefix": (xmp("", 'p:DataMining="DMI-PROHIBITED"'), "DMI-PROHIBITED"),
    "allowed": (xmp("", 'plus:DataMining="DMI-ALLOWED"'), "DMI-ALLOWED"),
    "both": (
        xmp(
            "<a:DataMining>DMI-ALLOWED</a:DataMining><b:DataMining>DMI-PROHIBITED</b:DataMining>",
            "",
        ),
        "DMI-PROHIBITED",
    ),
    "space": (xmp("", f'plus:DataMining="\n {MINING} "'), "DMI-PROHIBITED-AIMLTRAINING"),
    "no XML": (PACKET.replace(b"</dc:rights>", b"<<"), "DMI-PROHIBITED-AIMLTRAINING"),
    "cut": (PACKET[:-80], "DMI-PROHIBITED-AIMLTRAINING"),
    "UTF-16": (PACKET.decode().encode("utf-16-le"), "DMI-PROHIBITED-AIMLTRAINING"),
    "UTF-16, big-endian": (PACKET.decode().encode("utf-16-be"), "DMI-PROHIBITED-AIMLTRAINING"),
    "without x:xmpmeta": (
        PACKET.replace(b"x:xmpmeta", b"y:other"),
        "DMI-PROHIBITED-AIMLTRAINING",
    ),
    "text of no value": (xmp("", 'plus:DataMining="no thanks"'), "no thanks"),
    "elsewhere": (xmp("", 'dc:format="image/png"'), None),
}


@pytest.mark.parametrize("name", DATA_MINING)
def test_data_mining_is_read_however_it_is_written(name: str) -> None:
    packet, expected = DATA_MINING[name]
    assert of_packet(packet)["data_mining"] == expected


def test_a_packet_that_is_cut_into_segments_is_read() -> None:
    packet, size = xmp(RIGHTS + "<a>" + "x" * 100_000 + "</a>"), 60_000
    head = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32
    parts = [
        segment(0xE1, head + struct.pack(">II", len(packet), at) + packet[at : at + size])
        for at in range(0, len(packet), size)
    ]
    columns = metadata_columns(with_segments(encode(PICTURE), *parts), "jpeg", ())
    assert columns["data_mining"] == "DMI-PROHIBITED-AIMLTRAINING"
    assert columns["rights"] == "© Ö & Co"


def test_metadata_of_what_follows_a_jpeg_is_not_its_own() -> None:
    columns = metadata_columns(encode(PICTURE) + jpeg(), "jpeg", ALL)
    assert columns["data_mining"] is columns["rights"] is columns["kept_metadata"] is None
    assert columns["has_c2pa"] is False


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


def test_chunks_that_unpack_to_gigabytes_are_bounded() -> None:
    bomb = zlib.compress(bytes(100_000_000), 9)
    chunks = [chunk(b"zTXt", b"Copyright\0\0" + bomb), chunk(b"iTXt", b"Author\0\1\0\0\0" + bomb)]
    started = time.process_time()
    metadata_columns(with_chunks(encode(PICTURE, "PNG"), *chunks * 3), "png", ALL)
    assert time.process_time() - started < 2


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
    names = {"packed png": "png", "progressive": "jpeg"}
    files = [(name, bytearray(make())) for name, make in FILES.items()]
    while time.monotonic() < end:
        name, content = rng.choice(files)
        mutant = bytearray(content)
        for _ in range(rng.choice((1, 2, 8, 64))):
            mutant[rng.randrange(min(len(mutant), rng.choice((64, 2000, len(mutant)))))] = (
                rng.choice((0, 1, 255, rng.randrange(256)))
            )
        columns = metadata_columns(bytes(mutant), names.get(name, name), ALL)
        assert len(json.dumps(columns)) < 20_000
        count += 1
    return count


def test_metadata_of_mutated_files_is_columns() -> None:
    assert mutants(1.5, seed=1) > 50


@pytest.mark.nightly
def test_metadata_of_many_mutated_files_is_columns() -> None:
    assert mutants(120, seed=random.randrange(2**32)) > 5000
