"""Captions that say nothing of their picture: what cameras, shops and page builders write."""

import re

from curation.stages.screen.filters.base import Filter, Pair

WORDS = (
    "image images img photo photos photograph photography picture pictures pic thumbnail thumb banner "
    "logo icon avatar placeholder default blank spacer untitled unnamed unknown loading screenshot "
    "cover header footer background slide slideshow gallery featured preview product item no not "
    "available coming soon click here to enlarge zoom view see larger full size more read open close "
    "share pin it on facebook twitter pinterest instagram youtube stock free download hd wallpaper "
    "alt text caption description for the of and a an"
)
CAMERA = re.compile(
    r"(?:img|dsc[fn]?|dcim|pict?|p|mvi|gopr|screenshot|image|photo)?[\s_-]*[\d\s_x.-]+"
)
SIGNS = re.compile(r"[\W_]+")


def score(pair: Pair) -> int | None:
    """Return 1 for a caption of nothing but such words and numbers, 0 for any other."""
    text = (pair.caption or "").strip().lower()
    if not text:
        return None
    if CAMERA.fullmatch(text):
        return 1
    words = [word for word in SIGNS.split(text) if word and not word.isdigit()]
    return int(all(word in KNOWN for word in words))


KNOWN = frozenset(WORDS.split())
FILTER = Filter(
    doc="1 for a caption of nothing but numbers, camera names and words of shops and page builders "
    "(English), 0 for others; null without a caption",
    unit="",
    type="int32",
    usual="at_most: 0",
    score=score,
)
