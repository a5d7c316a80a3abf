"""Plants copies: of pool pictures, of held-out pictures, and of URLs."""

from __future__ import annotations

import numpy as np

from quickstart.edits import EASY, EDITS, HARD, extension
from quickstart.pictures import Picture, perceptual_hash
from quickstart.web import SILENT_HOST, Row, Web

EXACT, PER_EDIT, LEAKS = 40, 7, 20


def plant(web: Web, shown: list[tuple[Row, Picture]], held_out: list[tuple[str, Picture]]) -> None:
    """Add copies of pictures `shown` in the pool and of `held_out` ones, by path."""
    order = web.rng.permutation(len(shown))
    edited = len(EDITS) * PER_EDIT
    for index in order[:EXACT]:
        row, picture = shown[index]
        # one in five is copied twice, so that a component has more than a pair
        for _ in range(2 if index % 5 == 0 else 1):
            web.show(
                picture,
                kind="exact_copy",
                copy_of=row.uid,
                phash_distance=0,
                expected_status="copy",
                expected_reason="exact copy",
            )
    for place, index in enumerate(order[EXACT : EXACT + edited]):
        row, picture = shown[index]
        _edited(web, picture, list(EDITS)[place % len(EDITS)], row.uid, "edited_copy")
    for place, index in enumerate(web.rng.permutation(len(held_out))[:LEAKS]):
        path, picture = held_out[index]
        if place % 5 < 2:
            web.show(
                picture,
                kind="held_out_copy",
                copy_of=path,
                phash_distance=0,
                expected_status="leak",
                expected_reason="copy of a held-out picture",
            )
        else:
            _edited(web, picture, EASY[place % len(EASY)], path, "held_out_copy")
    _same_urls(web, [row for row, _ in shown])


def edit(rng: np.random.Generator, picture: Picture, name: str) -> tuple[bytes, int]:
    """The edited file, and its perceptual hash's distance from the original's in bits."""
    data = EDITS[name](rng, picture.image())
    changed = Picture(picture.photo, picture.caption, data, extension(name)).image()
    distance = np.count_nonzero(perceptual_hash(changed) != perceptual_hash(picture.image()))
    return data, int(distance)


def _edited(web: Web, picture: Picture, name: str, copy_of: str, kind: str) -> None:
    data, distance = edit(web.rng, picture, name)
    leak = kind == "held_out_copy"
    web.place(
        data,
        extension(name),
        picture.caption,
        kind=kind,
        photo=picture.photo,
        copy_of=copy_of,
        edit=name,
        hard=name in HARD,
        phash_distance=distance,
        expected_status="leak" if leak else "copy",
        expected_reason="copy of a held-out picture" if leak else "near copy",
    )


def _same_urls(web: Web, rows: list[Row]) -> None:
    """The same address again, also in other spellings."""
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
        web.add(
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
    _same_failures(web)


def _same_failures(web: Web) -> None:
    """Spellings of host and port, which loopback addresses that answer do not have."""
    pairs = {
        "default_port": (f"http://{SILENT_HOST}/a.jpg", f"http://{SILENT_HOST}:80/a.jpg"),
        "host_case": ("http://[fd00::abc]/a.jpg", "http://[FD00::ABC]/a.jpg"),
    }
    for spelling, (first, second) in pairs.items():
        private = spelling == "host_case"
        status, reason = ("refused", "private address") if private else ("failed", "connection")
        row = web.add(
            first,
            "",
            kind="private_address" if private else "refused_connection",
            expected_status=status,
            expected_reason=reason,
        )
        web.add(
            second,
            "",
            kind="duplicate_url",
            copy_of=row.uid,
            edit=spelling,
            expected_status=status,
            expected_reason="same URL",
        )
