"""Which formats of images are read, and which are only known by name."""

from __future__ import annotations

import re
from functools import cache

from PIL import Image

from curation.media.pictures.plug_ins import PLUG_INS, add_format

FORMATS = {
    "JPEG": "jpeg",
    # A JPEG file that holds several images (Multi-Picture Object); Pillow opens it as its first image.
    "MPO": "jpeg",
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tiff",
    "AVIF": "avif",
    "JPEG2000": "jpeg2000",
    "ICO": "ico",
    "PPM": "ppm",
    **{plug_in.name: kind for kind, plug_in in PLUG_INS.items()},
}
"""Formats that are read: the name in Pillow, and the name in the table `images`."""

_RAW = (
    *(b"II*\0\x10\0\0\0CR", b"IIRO", b"IIRS", b"MMOR", b"IIU\0"),
    *(b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM"),
)
"""The first bytes of raw files of cameras: Canon, Olympus, Panasonic, Fujifilm, Sigma, Minolta. Others
are TIFFs (`tiff.py`)."""
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    *((magic, "raw") for magic in _RAW),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"\0\0\1\0", "ico"),
    (b"\0\0\0\x0cjP  \r\n", "jpeg2000"),
    (b"\xff\x4f\xff\x51", "jpeg2000"),
    (b"\0\0\0\x0cJXL ", "jxl"),
    (b"\xff\x0a", "jxl"),
    (b"8BPS", "psd"),
    (b"qoif", "qoi"),
    (b"icns", "icns"),
    (b"DDS ", "dds"),
    (b"gimp xcf", "xcf"),
    (b"II\xbc", "jxr"),
    (b"\x76\x2f\x31\x01", "exr"),
    (b"#?RADIANCE", "hdr"),
    (b"AT&TFORM", "djvu"),
    # A file of cursors holds at least one; these bytes of a TGA say that it has no map of colours.
    *((bytes((0, 0, kind, 0, 0, 0, 0, 0)), "tga") for kind in (2, 3, 10, 11)),
    (b"\0\0\2\0", "cur"),
    (b"%PDF-", "pdf"),
    (b"%!PS", "eps"),
    (b"\xc5\xd0\xd3\xc6", "eps"),
    (b"\x0a\0\1", "pcx"),
    (b"\x0a\2\1", "pcx"),
    (b"\x0a\3\1", "pcx"),
    (b"\x0a\5\1", "pcx"),
    (b"\xb1h\xde:", "dcx"),
    (b"\1\xda\0", "sgi"),
    (b"\1\xda\1", "sgi"),
    (b"Y\xa6j\x95", "sun"),
    (b"/* XPM */", "xpm"),
    (b"\xd7\xcd\xc6\x9a", "wmf"),
    (b"SIMPLE  =", "fits"),
    (b"BLP1", "blp"),
    (b"BLP2", "blp"),
    (b"\x8aMNG\r\n\x1a\n", "mng"),
    (b"\x8bJNG\r\n\x1a\n", "jng"),
    (b"BPG\xfb", "bpg"),
    (b"FLIF", "flif"),
    # Not downloaded: `git lfs pull` and `git annex get` do it.
    (b"version https://git-lfs.github.com/", "git_lfs_pointer"),
    (b"/annex/objects/", "git_annex_pointer"),
)
_BRANDS = {
    "avif": (b"avif", b"avis"),
    "heic": (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"),
    "raw": (b"crx ",),
}
_BRAND_BYTES = 64
"""The first bytes of a file of ISO boxes name its brand and those that it is compatible with."""
_MAGIC_WITHIN = {"dicom": (128, b"DICM"), "emf": (40, b" EMF")}
"""Formats that are named after their beginning, and where."""
_XBM = re.compile(rb"\s*#define[ \t]+\w*_width[ \t]+\d+\s*#define[ \t]+\w*_height[ \t]")
_SVG_BYTES = 4096


def format_of(content: bytes) -> str | None:
    """Return the format that the first bytes of a file name, or None if they name none."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    if content[4:8] == b"ftyp":
        brands = content[8:_BRAND_BYTES]
        names = (name for name, known in _BRANDS.items() if any(b in brands for b in known))
        return next(names, None)
    known = next((name for magic, name in _MAGIC if content.startswith(magic)), None)
    return known or _format_within(content)


def _format_within(content: bytes) -> str | None:
    """Return the format of a file whose first bytes alone name none."""
    for name, (at, magic) in _MAGIC_WITHIN.items():
        if content.startswith(magic, at):
            return name
    head = content[:_SVG_BYTES]
    if _is_svg(head):
        return "svg"
    return "xbm" if _XBM.match(head) else None


def _is_svg(head: bytes) -> bool:
    """Whether a text begins as SVG; a page of HTML may hold some too."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    is_xml = text.startswith((b"<svg", b"<?xml", b"<!--", b"<!DOCTYPE svg"))
    return is_xml and b"<svg" in text and b"<html" not in text.lower()


@cache
def pillow_formats(more: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the formats that are read here: Pillow's name, and the name in the table `images`.

    Args:
        more: formats of plug-ins, which are loaded.

    Raises:
        RecipeError: a plug-in is not installed.
    """
    Image.init()
    for kind in more:
        add_format(kind)
    return {
        name: kind
        for name, kind in FORMATS.items()
        if name in Image.OPEN and (kind not in PLUG_INS or kind in more)
    }
