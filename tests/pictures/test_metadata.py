"""Stored pictures carry no metadata; what it says is in columns."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import simplejpeg
from PIL import Image, JpegImagePlugin

from curation.media.pictures.decoder_messages import Message
from curation.media.pictures.jpeg_strip import stripped
from curation.media.pictures.metadata.columns import metadata_columns
from curation.media.pictures.metadata.texts import MAX_TEXT
from curation.media.pictures.upright import make_upright
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.picture import columns_of, header_of, store_picture
from tests.pictures.files import PICTURE, chunk, encode, segment, with_chunks, with_segments
from tests.pictures.metadata_files import (
    ALL,
    FILES,
    MINING,
    PACKET,
    RIGHTS,
    SECRET,
    jpeg,
    of_packet,
    xmp,
)

STRIPPED = ["jpeg", "progressive", "restarts", "4:2:0", "optimised"]


def stored(content: bytes, **params: Any) -> tuple[dict[str, Any], bytes]:
    """The columns and the stored image of a file, whatever it says of data mining."""
    plain = {"resize": {"mode": "no"}, "opt_out_signals": []}
    recipe = FetchParams.model_validate(plain | params)
    answer = store_picture(header_of(recipe), content)
    assert answer.header["reason"] is None
    return answer.header["columns"], answer.content


@pytest.mark.parametrize("name", FILES)
def test_pictures_that_prohibit_data_mining_are_not_stored(name: str) -> None:
    content = FILES[name]()
    columns, image = stored(content)
    answer = store_picture(header_of(FetchParams()), content)
    if columns["data_mining"] is None:
        assert answer.header["reason"] is None and image
        return
    assert answer.header["reason"] == "opted_out_data_mining" and answer.content == b""
    assert json.loads(answer.header["columns"]["opt_out"])["text"] == columns["data_mining"]


HISTORY = "<rdf:li>adobe:docid:photoshop:01234567</rdf:li>" * 30_000
"""What editors write into XMP of each picture that was pasted into one."""
EXTENDED = b"http://ns.adobe.com/xmp/extension/\0" + bytes(40)
LARGE: dict[str, Callable[[bytes], bytes]] = {
    "jpeg": lambda packet: with_segments(
        encode(PICTURE),
        *(
            segment(0xE1, EXTENDED + packet[at : at + 60_000])
            for at in range(0, len(packet), 60_000)
        ),
    ),
    "png": lambda packet: with_chunks(
        encode(PICTURE, "PNG"), chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)
    ),
    "webp": lambda packet: encode(PICTURE, "WEBP", xmp=packet),
    "tiff": lambda packet: encode(PICTURE, "TIFF", tiffinfo={700: packet}),
    "avif": lambda packet: encode(PICTURE, "AVIF", xmp=packet),
}


@pytest.mark.parametrize("codec", ["utf-8", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("kind", LARGE)
def test_a_prohibition_counts_before_and_after_megabytes_of_history(kind: str, codec: str) -> None:
    mining, packet = f"<plus:DataMining>{MINING}</plus:DataMining>", xmp("@", "").decode()
    for inner in (mining + HISTORY, HISTORY + mining):
        content = LARGE[kind](packet.replace("@", inner).encode(codec))
        columns = metadata_columns(content, kind, ())
        assert columns["data_mining"] == MINING.rpartition("/")[2]


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
        ("jpeg2000", {"© Ö & Co", "(c) Exif"}, None, True),
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


@pytest.mark.parametrize("name", ["jpeg", "jpeg2000"])
def test_a_recipe_may_keep_more_as_a_column(name: str) -> None:
    columns, _ = stored(FILES[name](), keep_metadata=["camera", "taken", "creator", "description"])
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


def test_no_text_is_too_long_to_be_kept() -> None:
    """Marks that JSON escapes are two characters each."""
    names = FetchParams.model_fields["keep_metadata"].annotation
    kept = json.dumps(dict.fromkeys(get_args(get_args(names)[0]), '"' * MAX_TEXT))
    answer = Message({"columns": {"kept_metadata": kept}, "reason": None}, b"")
    assert columns_of(answer) == {"kept_metadata": kept, "reason": None}


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
