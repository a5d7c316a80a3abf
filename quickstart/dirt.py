"""Adds what a web crawl contains besides images: dead links, invalid files and unusual images."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from .pictures import Picture, Studio, encode
from .web import HOSTS, SILENT_HOST, Row, Web

BLOCKED_DOMAINS = ("ads.blocked.example", "trackers.blocked.example")


def add_bad_rows(web: Web, studio: Studio) -> None:
    """Add about two hundred bad or unusual rows to the pool."""
    _add_dead_links(web, studio)
    _add_forbidden_links(web, studio)
    _add_redirects(web, studio)
    _add_undecodable_files(web, studio)
    _add_filtered_images(web, studio)
    _add_unusual_images(web, studio)


def _caption(studio: Studio) -> str:
    """Return a caption like that of a good image."""
    titles = list(studio.photographs.values())
    return titles[int(studio.rng.integers(len(titles)))].title


def _add_dead_links(web: Web, studio: Studio) -> None:
    """Add links whose response is not an image."""

    def add(url: str, kind: str, reason: str) -> None:
        web.add_row(
            url, _caption(studio), kind=kind, expected_status="failed", expected_reason=reason
        )

    for _ in range(30):
        add(f"{web.site()}/p/gone/{web.name()}.jpg", "dead_link", "404")
    for status in (403, 410, 500, 503):
        for _ in range(2):
            add(f"{web.site()}/status/{status}/{web.name()}.jpg", "dead_link", str(status))
    for index in range(12):
        address = f"{HOSTS[0]}:9" if index % 2 else f"{SILENT_HOST}:{web.port}"
        add(f"http://{address}/{web.name()}.jpg", "refused_connection", "connection")
    for _ in range(20):
        add(f"{web.site()}/html/{web.name()}.jpg", "html_page", "not an image")


def _add_forbidden_links(web: Web, studio: Studio) -> None:
    """Add links that must not be requested."""
    private = ("10.1.2.3", "192.168.0.7", "169.254.169.254", "[fd00::1]")
    urls = {
        "blocked_domain": [
            f"http://{prefix}{domain}/{web.name()}.jpg"
            for domain in BLOCKED_DOMAINS
            for prefix in ("", "cdn.", "a.b.", "WWW.")
            for _ in range(2)
        ],
        "private_address": [f"http://{address}/x.jpg" for address in private],
        "bad_scheme": [
            "file:///etc/hostname",
            "ftp://127.0.0.1/x.jpg",
            "javascript:alert(1)",
            "data:image/gif;base64,R0lGODlhAQABAAAAACw=",
        ],
        "bad_url": ["/images/no-host.jpg", "http://", "not a url", ""],
    }
    for kind, links in urls.items():
        for url in links:
            web.add_row(
                url,
                _caption(studio),
                kind=kind,
                expected_status="refused",
                expected_reason=kind.replace("_", " "),
            )


def _add_redirects(web: Web, studio: Studio) -> None:
    """Add redirects and slow responses."""
    for _ in range(3):
        web.add_row(
            f"{web.site()}/inward/{web.name()}.jpg",
            _caption(studio),
            kind="redirect_to_private",
            expected_status="failed",
            expected_reason="private address",
        )
    for _ in range(2):
        web.add_row(
            f"{web.site()}/loop/{web.name()}.jpg",
            _caption(studio),
            kind="redirect_loop",
            expected_status="failed",
            expected_reason="too many redirects",
        )
    for kind, count in {"moved": 5, "slow": 5}.items():
        for _ in range(count):
            picture = studio.any_scene()
            path = web.write_file(picture.data, picture.extension)
            web.add_row(
                f"{web.site()}/{kind}/{path}",
                picture.caption,
                photo=picture.photo,
                file=path,
                kind="redirect" if kind == "moved" else "slow",
            )


def _add_undecodable_files(web: Web, studio: Studio) -> None:
    """Add files with the name of an image that cannot be decoded."""

    def place(data: bytes, kind: str, reason: str, extension: str = ".jpg") -> None:
        web.add_file(
            data,
            extension,
            _caption(studio),
            kind=kind,
            expected_status="failed",
            expected_reason=reason,
        )

    for _ in range(12):
        noise = web.rng.integers(0, 256, int(web.rng.integers(800, 9000)), dtype=np.uint8)
        place(noise.tobytes(), "corrupt", "not an image")
    for _ in range(12):
        data = studio.any_scene(form="JPEG").data
        place(data[: int(len(data) * web.rng.uniform(0.3, 0.7))], "truncated", "truncated")
    for _ in range(8):
        place(b"", "empty", "empty body")
    place(_bomb(), "bomb", "too many pixels", ".png")
    for colour in ("teal", "gold"):
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="200" height="200">'
            f'<circle cx="100" cy="100" r="80" fill="{colour}"/></svg>\n'
        )
        place(svg.encode(), "svg", "not an image", ".svg")


def _add_filtered_images(web: Web, studio: Studio) -> None:
    """Add valid images that the filters of the quickstart drop."""

    def place(image: Image.Image, kind: str, reason: str, photo: str, text: str) -> None:
        web.add_file(
            encode(image, "PNG"),
            ".png",
            text,
            kind=kind,
            photo=photo,
            expected_status="filtered",
            expected_reason=reason,
        )

    for _ in range(10):
        one = studio.any_scene()
        place(one.image().resize((20, 20)), "too_small", "min_side", one.photo, one.caption)
    for index in range(8):
        one = studio.any_scene(long_side=(280, 320), form="PNG")
        image = one.image()
        strip = image.crop((0, 0, image.width, image.height // 4)).resize((400, 90))
        turned = strip.transpose(Image.Transpose.ROTATE_90) if index % 2 else strip
        place(turned, "elongated", "aspect", one.photo, one.caption)
    for _ in range(8):
        colour = tuple(web.rng.integers(0, 256, 3).tolist())
        place(Image.new("RGB", (160, 120), colour), "blank", "entropy", "", "placeholder")


def _add_unusual_images(web: Web, studio: Studio) -> None:
    """Add valid images in unusual formats."""

    def place(data: bytes, extension: str, one: Picture, kind: str) -> Row:
        return web.add_file(data, extension, one.caption, kind=kind, photo=one.photo)

    for _ in range(2):
        one = studio.any_scene(form="JPEG")
        exif = Image.Exif()
        exif[0x0112] = 6
        stream = io.BytesIO()
        one.image().transpose(Image.Transpose.ROTATE_90).save(stream, "JPEG", quality=90, exif=exif)
        place(stream.getvalue(), ".jpg", one, "exif_rotated")
        one = studio.any_scene(form="PNG")
        place(encode(one.image().convert("CMYK"), "JPEG"), ".jpg", one, "cmyk")
        one = studio.any_scene(form="PNG")
        deep = np.asarray(one.image().convert("L"), dtype=np.uint16) * 257
        place(encode(Image.fromarray(deep), "PNG"), ".png", one, "png_16bit")
        place(_animation(one := studio.any_scene(form="PNG")), ".gif", one, "animated_gif")
        one = studio.any_scene(form="PNG")
        place(one.data, ".jpg", one, "wrong_extension")
        one = studio.any_scene(form="JPEG")
        place(one.data, ".gif", one, "wrong_extension")


def _animation(picture: Picture) -> bytes:
    """Return a GIF of three frames, of which the first is the image."""
    first = picture.image().quantize(128)
    others = [picture.image().rotate(angle).quantize(128) for angle in (120, 240)]
    stream = io.BytesIO()
    first.save(stream, "GIF", save_all=True, append_images=others, duration=200, loop=0)
    return stream.getvalue()


def _bomb() -> bytes:
    """Return a PNG of a few kB whose header declares 30,000 x 30,000 pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(3_000_000), 9)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
