"""Captions like those of the web: long, short, one word, or none."""

from __future__ import annotations

import numpy as np

DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ROWS, COLUMNS = ("upper", "middle", "lower"), ("left", "centre", "right")

ONE_WORD, EMPTY = 0.08, 0.04

SCENES = (
    "{title}",
    "{title}, {region}",
    "{title}: {region} detail",
    "detail of {title}, {region} part",
    "photo of {title}",
    "a close look at {title}",
    "{word}, {region}, free picture",
    "The {region} of a photograph showing {title}. Click to enlarge",
    "{word} stock photo {number}",
    "IMG_{number}.JPG",
)
DRAWINGS = (
    "{title}",
    "{word}",
    "drawing of {title}",
    "{word} clip art, free picture",
    "{title} | {word} illustration {number}",
    "picture of {title}. Click to enlarge",
    "my {word}",
    "IMG_{number}.JPG",
)
DIGITS = (
    "a handwritten digit {word}",
    "handwritten {word}",
    "the number {word} written by hand",
    "digit {number} on paper",
    "one of many handwritten digits: this one is a {word}, written with a pen",
    "{word} ({number})",
)


def region(box: tuple[int, int, int, int], size: tuple[int, int]) -> str:
    """Describe where the centre of `box` is in a photograph of `size`, as "upper left"."""
    column = COLUMNS[min(2, 3 * (box[0] + box[2]) // (2 * size[0]))]
    row = ROWS[min(2, 3 * (box[1] + box[3]) // (2 * size[1]))]
    return "centre" if (row, column) == ("middle", "centre") else f"{row} {column}"


def scene(rng: np.random.Generator, title: str, word: str, where: str) -> str:
    """Return a random caption of a scene."""
    return _draw(rng, SCENES, word, title=title, region=where, number=int(rng.integers(1000, 9999)))


def drawing(rng: np.random.Generator, title: str, word: str) -> str:
    """Return a random caption of a drawing."""
    return _draw(rng, DRAWINGS, word, title=title, number=int(rng.integers(1000, 9999)))


def digit(rng: np.random.Generator, label: int) -> str:
    """Return a random caption of a handwritten digit."""
    return _draw(rng, DIGITS, DIGIT_WORDS[label], number=label)


def _draw(rng: np.random.Generator, templates: tuple[str, ...], word: str, **words: object) -> str:
    chance = rng.random()
    template = templates[int(rng.integers(len(templates)))]
    if chance < EMPTY:
        return ""
    return word if chance < EMPTY + ONE_WORD else template.format(word=word, **words)
