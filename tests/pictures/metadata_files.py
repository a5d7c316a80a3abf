"""Pictures of every format with every kind of metadata, and packets of XMP."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from PIL import Image, PngImagePlugin

from curation.media.pictures.metadata.columns import metadata_columns
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


def jpeg2000() -> bytes:
    """A JPEG 2000 with boxes, as ExifTool and editors add them after the picture."""
    xmp_box = bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + PACKET
    exif_box = b"JpgTiffExif->JP2" + exif().tobytes().removeprefix(b"Exif\0\0")
    boxes = [b"uuid" + xmp_box, b"uuid" + exif_box, C2PA_BOX[4:], b"free" + SECRET.encode()]
    whole = encode(PICTURE, "JPEG2000")
    return whole + b"".join(struct.pack(">I", len(box) + 4) + box for box in boxes)


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
    "jpeg2000": jpeg2000,
    "bmp": lambda: encode(PICTURE, "BMP") + SECRET.encode(),
    "ppm": lambda: encode(PICTURE, "PPM") + SECRET.encode(),
    "ico": lambda: encode(PICTURE, "ICO") + SECRET.encode(),
}


def of_packet(packet: bytes) -> dict[str, str | bool | None]:
    """The columns of a PNG with a packet."""
    text = b"XML:com.adobe.xmp\0\0\0\0\0" + packet
    return metadata_columns(with_chunks(encode(PICTURE, "PNG"), chunk(b"iTXt", text)), "png", ALL)
