"""Boilerplate captions, which do not describe their image: of cameras, shops and page builders."""

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
CAMERA_FILE_NAME = re.compile(
    r"(?:img|dsc[fn]?|dcim|pict?|p|mvi|gopr|screenshot|image|photo)?[\d\s_x.-]+"
    r"(?:(?<=\d\.)(?:jpe?g|png|gif|webp|bmp|tiff?|heic|avif|dng|cr[23]|nef|arw))?"
)
SEPARATORS = re.compile(r"[\W_]+")


def score(pair: Pair) -> int | None:
    """Return 1 for a caption that consists only of boilerplate words and numbers, 0 for others."""
    text = (pair.caption or "").strip().lower()
    if not text:
        return None
    if CAMERA_FILE_NAME.fullmatch(text):
        return 1
    words = [word for word in SEPARATORS.split(text) if word and not word.isdigit()]
    return int(all(word in BOILERPLATE_WORDS for word in words))


BOILERPLATE_WORDS = frozenset(WORDS.split())
FILTER = Filter(
    doc="1 for a caption that consists only of numbers, camera file names and boilerplate words of "
    "shops and page builders (English), 0 for others; null without a caption",
    unit="",
    type="int32",
    usual="at_most: 0",
    score=score,
)
