"""Makes images, of which no two are copies: scenes cut from photographs, drawings, and digits."""

from __future__ import annotations

import io
from dataclasses import dataclass

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_digits

from . import captions, ink
from .drawings import DRAWINGS
from .photographs import PHOTOGRAPHS, load

Box = tuple[int, int, int, int]
Hash = NDArray[np.bool_]

MIN_HASH_DISTANCE = 41
"""Smallest distance of two hashes, of 256 bits; copies are searched up to 31, which leaves a margin."""
MAX_IOU = 0.18
"""Largest overlap of two scenes of a photograph: intersection divided by union."""
MIN_STD, MIN_ENTROPY = 16.0, 4.5
"""Smallest standard deviation and entropy of the grey values of a scene, so that it is not empty."""
MAX_TRIES = 2000
EXTENSIONS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}


@dataclass(frozen=True)
class Picture:
    """An encoded image; `photo` names its photograph, kind of drawing or class of digit."""

    photo: str
    caption: str
    data: bytes
    extension: str

    def image(self) -> Image.Image:
        """Return the decoded image in RGB."""
        return Image.open(io.BytesIO(self.data)).convert("RGB")


def perceptual_hash(image: Image.Image) -> Hash:
    """Return the hash of 256 bits that `dedup.perceptual` compares."""
    return np.asarray(imagehash.phash(image, hash_size=16).hash, dtype=bool).ravel()


def grey_entropy(image: Image.Image) -> float:
    """Return the Shannon entropy of the grey values, in bits."""
    counts = np.array(image.convert("L").histogram(), dtype=np.float64)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def encode(image: Image.Image, form: str, quality: int = 90) -> bytes:
    """Encode an image in the format `form`; `quality` is for JPEG and WebP."""
    stream = io.BytesIO()
    options = {} if form in ("PNG", "GIF") else {"quality": quality}
    image.save(stream, form, **options)
    return stream.getvalue()


class Studio:
    """Makes images one by one, each different from all before it.

    Scenes of one photograph overlap little and are not empty. The perceptual hashes of any two images
    differ in at least `MIN_HASH_DISTANCE` bits.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([seed, 1])
        self.photographs = {one.name: one for one in PHOTOGRAPHS}
        self.pixels = {one.name: load(one) for one in PHOTOGRAPHS}
        self.exhausted: set[str] = set()
        self._boxes: dict[str, list[Box]] = {one.name: [] for one in PHOTOGRAPHS}
        self._hashes = np.zeros((0, 256), dtype=bool)
        digits = load_digits()
        order = self.rng.permutation(len(digits.target))
        self._strokes: dict[int, list[NDArray[np.float64]]] = {
            label: [digits.images[i] for i in order if digits.target[i] == label]
            for label in range(10)
        }

    def theme(self, theme: str) -> list[str]:
        """Return the names of the photographs of one theme, or the one kind of drawing of that name."""
        if theme in DRAWINGS:
            return [theme]
        return [name for name, one in self.photographs.items() if one.theme == theme]

    def scene(
        self, name: str, *, long_side: tuple[int, int] = (120, 320), form: str | None = None
    ) -> Picture | None:
        """Return a new scene of a photograph; None if it has no space for another one."""
        for _ in range(MAX_TRIES):
            box = self._box(name)
            if self._overlaps(name, box):
                continue
            cut = self._vary(self.pixels[name].crop(box))
            if np.asarray(cut.convert("L")).std() < MIN_STD or grey_entropy(cut) < MIN_ENTROPY:
                continue
            picture = self._with_caption(self._resize(cut, long_side), name, box, form)
            if self._add_if_new(picture):
                self._boxes[name].append(box)
                return picture
        self.exhausted.add(name)
        return None

    def any_scene(
        self,
        names: list[str] | None = None,
        *,
        long_side: tuple[int, int] = (120, 320),
        form: str | None = None,
    ) -> Picture:
        """Return a new scene of one of some photographs that still have space, or a new drawing.

        Args:
            names: photographs and kinds of drawings; by default all photographs.
            long_side: the shortest and longest that the longer side of a scene may be.
            form: the format; by default a random one.
        """
        while open_names := [n for n in names or self.photographs if n not in self.exhausted]:
            name = open_names[int(self.rng.integers(len(open_names)))]
            if name in DRAWINGS:
                return self.drawing(name, form=form)
            if picture := self.scene(name, long_side=long_side, form=form):
                return picture
        raise RuntimeError(f"no photograph has space for another scene: {names or 'all'}")

    def drawing(self, name: str, *, form: str | None = None) -> Picture:
        """Return a new drawing of a kind."""
        one = DRAWINGS[name]
        for _ in range(MAX_TRIES):
            text = captions.drawing(self.rng, one.title, one.word)
            picture = self._encode(one.draw(self.rng), name, text, form)
            if self._add_if_new(picture):
                return picture
        raise RuntimeError(f"no new drawing of {name} after {MAX_TRIES} tries")

    def digit(self, label: int, *, form: str | None = None) -> Picture:
        """Return a new handwritten digit; each digit of scikit-learn is used at most once."""
        strokes = self._strokes[label].pop()
        for _ in range(MAX_TRIES):
            image = ink.draw_digit(self.rng, strokes)
            text = captions.digit(self.rng, label)
            picture = self._encode(image, f"digit-{label}", text, form)
            if self._add_if_new(picture):
                return picture
        raise RuntimeError(f"no new digit {label} after {MAX_TRIES} tries")

    def _box(self, name: str) -> Box:
        width, height = self.pixels[name].size
        short = min(width, height)
        smallest, largest = max(60.0, short / 14), 0.6 * short
        # The square favours small scenes, since few large ones fit without overlap.
        side = smallest * (largest / smallest) ** (self.rng.random() ** 2)
        stretch = 1.5 ** self.rng.uniform(-0.5, 0.5)
        wide, high = round(side * stretch), round(side / stretch)
        left, top = self.rng.integers(width - wide + 1), self.rng.integers(height - high + 1)
        return int(left), int(top), int(left) + wide, int(top) + high

    def _overlaps(self, name: str, box: Box) -> bool:
        """Whether `box` overlaps an earlier scene of the photograph too much."""
        if not self._boxes[name]:
            return False
        others = np.array(self._boxes[name])
        wide = np.minimum(others[:, 2], box[2]) - np.maximum(others[:, 0], box[0])
        high = np.minimum(others[:, 3], box[3]) - np.maximum(others[:, 1], box[1])
        common = np.maximum(wide, 0) * np.maximum(high, 0)
        area = (box[2] - box[0]) * (box[3] - box[1])
        areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
        return bool((common / (areas + area - common) >= MAX_IOU).any())

    def _vary(self, cut: Image.Image) -> Image.Image:
        """Vary a scene: mirror it, change its tones, tint a grey one.

        Without tints, an encoder would mistake any two scenes of gravel for copies.
        """
        if self.rng.random() < 0.3:
            cut = ImageOps.mirror(cut)
        if self.rng.random() < 0.5:
            cut = ImageEnhance.Color(cut).enhance(self.rng.uniform(0.5, 1.5))
            cut = ImageEnhance.Contrast(cut).enhance(self.rng.uniform(0.85, 1.3))
            cut = ImageEnhance.Brightness(cut).enhance(self.rng.uniform(0.85, 1.2))
        red, green, _ = cut.split()
        if self.rng.random() < 0.8 and red.tobytes() == green.tobytes():
            dark, light = self.rng.integers(0, 100, 3), self.rng.integers(130, 256, 3)
            cut = ImageOps.colorize(red, tuple(dark.tolist()), tuple(light.tolist()))
        return cut

    def _resize(self, cut: Image.Image, long_side: tuple[int, int]) -> Image.Image:
        longest = max(cut.size)
        wanted = min(int(self.rng.integers(long_side[0], long_side[1] + 1)), round(2.2 * longest))
        size = round(cut.width * wanted / longest), round(cut.height * wanted / longest)
        return cut.resize(size, Image.Resampling.LANCZOS)

    def _with_caption(self, image: Image.Image, name: str, box: Box, form: str | None) -> Picture:
        one = self.photographs[name]
        where = captions.region(box, self.pixels[name].size)
        text = captions.scene(self.rng, one.title, one.word, where)
        return self._encode(image, name, text, form)

    def _encode(self, image: Image.Image, photo: str, text: str, form: str | None) -> Picture:
        drawn = str(self.rng.choice(["JPEG", "PNG", "WEBP"], p=[0.84, 0.08, 0.08]))
        form = form or drawn
        data = encode(image, form, int(self.rng.integers(72, 96)))
        return Picture(photo, text, data, EXTENSIONS[form])

    def _add_if_new(self, picture: Picture) -> bool:
        """Add the hash of an image; return False if it is too close to an earlier one."""
        bits = perceptual_hash(picture.image())
        if (np.count_nonzero(self._hashes != bits, axis=1) < MIN_HASH_DISTANCE).any():
            return False
        self._hashes = np.vstack([self._hashes, bits])
        return True
