"""Adds copies of pool images, of held-out images and of URLs to the pool."""

from __future__ import annotations

import numpy as np

from .edits import EASY, EDITS, HARD, extension
from .pictures import Picture, perceptual_hash
from .web import SILENT_HOST, Row, Web

EXACT_COPIES, COPIES_PER_EDIT, HELD_OUT_COPIES = 40, 7, 20


def add_copies(
    web: Web, shown: list[tuple[Row, Picture]], held_out: list[tuple[str, Picture]]
) -> None:
    """Add copies to the pool.

    Args:
        web: the mini-web.
        shown: images of the pool with their rows.
        held_out: held-out images by path.
    """
    order = web.rng.permutation(len(shown))
    edited = len(EDITS) * COPIES_PER_EDIT
    for index in order[:EXACT_COPIES]:
        row, picture = shown[index]
        # One in five is copied twice, so that some components have more than two images.
        for _ in range(2 if index % 5 == 0 else 1):
            web.add_image(
                picture,
                kind="exact_copy",
                copy_of=row.uid,
                phash_distance=0,
                expected_status="copy",
                expected_reason="exact copy",
            )
    for place, index in enumerate(order[EXACT_COPIES : EXACT_COPIES + edited]):
        row, picture = shown[index]
        _add_edited(web, picture, list(EDITS)[place % len(EDITS)], row.uid, "edited_copy")
    for place, index in enumerate(web.rng.permutation(len(held_out))[:HELD_OUT_COPIES]):
        path, picture = held_out[index]
        if place % 5 < 2:
            web.add_image(
                picture,
                kind="held_out_copy",
                copy_of=path,
                phash_distance=0,
                expected_status="leak",
                expected_reason="copy of a held-out picture",
            )
        else:
            _add_edited(web, picture, EASY[place % len(EASY)], path, "held_out_copy")
    _add_same_urls(web, [row for row, _ in shown])


def edit(rng: np.random.Generator, picture: Picture, name: str) -> tuple[bytes, int]:
    """Return the edited file, and the distance of its perceptual hash from the original's, in bits."""
    data = EDITS[name](rng, picture.image())
    changed = Picture(picture.photo, picture.caption, data, extension(name)).image()
    distance = np.count_nonzero(perceptual_hash(changed) != perceptual_hash(picture.image()))
    return data, int(distance)


def _add_edited(web: Web, picture: Picture, name: str, copy_of: str, kind: str) -> None:
    data, distance = edit(web.rng, picture, name)
    is_held_out = kind == "held_out_copy"
    web.add_file(
        data,
        extension(name),
        picture.caption,
        kind=kind,
        photo=picture.photo,
        copy_of=copy_of,
        edit=name,
        hard=name in HARD,
        phash_distance=distance,
        expected_status="leak" if is_held_out else "copy",
        expected_reason="copy of a held-out picture" if is_held_out else "near copy",
    )


def _add_same_urls(web: Web, rows: list[Row]) -> None:
    """Add URLs that are listed already, also in other spellings."""
    spellings = ("same", "same_other_caption", "fragment", "scheme_case", "percent")
    for place, index in enumerate(web.rng.permutation(len(rows))[:15]):
        row, spelling = rows[index], spellings[place % len(spellings)]
        stem, dot, ending = row.url.rpartition(".")
        url = {
            "fragment": f"{row.url}#top",
            "scheme_case": row.url.replace("http://", "HTTP://"),
            "percent": f"{stem}%2E{ending}" if dot else row.url,
        }.get(spelling, row.url)
        text = f"{row.text} again" if spelling == "same_other_caption" else row.text
        web.add_row(
            url,
            text,
            kind="duplicate_url",
            photo=row.photo,
            copy_of=row.uid,
            edit=spelling,
            phash_distance=0,
            expected_status="copy",
            expected_reason="same URL",
        )
    _add_same_failures(web)


def _add_same_failures(web: Web) -> None:
    """Add spellings of host and port that the loopback addresses of the server do not have."""
    pairs = {
        "default_port": (f"http://{SILENT_HOST}/a.jpg", f"http://{SILENT_HOST}:80/a.jpg"),
        "host_case": ("http://[fd00::abc]/a.jpg", "http://[FD00::ABC]/a.jpg"),
    }
    for spelling, (first, second) in pairs.items():
        private = spelling == "host_case"
        status, reason = ("refused", "private address") if private else ("failed", "connection")
        row = web.add_row(
            first,
            "",
            kind="private_address" if private else "refused_connection",
            expected_status=status,
            expected_reason=reason,
        )
        web.add_row(
            second,
            "",
            kind="duplicate_url",
            copy_of=row.uid,
            edit=spelling,
            expected_status=status,
            expected_reason="same URL",
        )
