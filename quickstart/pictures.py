"""Cuts photographs into scenes and writes digits, so that no two pictures are copies."""

from __future__ import annotations

import io
from dataclasses import dataclass

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_digits

from quickstart import captions, ink
from quickstart.photographs import PHOTOGRAPHS, load

Box = tuple[int, int, int, int]
Hash = NDArray[np.bool_]

MIN_HASH_DISTANCE = 41  # of 256 bits; copies are sought up to 31, so encoding noise has room
MAX_IOU = 0.18
MIN_STD, MIN_ENTROPY = 16.0, 4.5  # of 8-bit grey: sky and shadow say nothing
TRIES = 2000
EXTENSIONS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}


@dataclass(frozen=True)
class Picture:
    """An encoded picture; `photo` names its photograph, or the class of its digit."""

    photo: str
    caption: str
    data: bytes
    extension: str

    def image(self) -> Image.Image:
        """The decoded pixels, RGB."""
        return Image.open(io.BytesIO(self.data)).convert("RGB")


def perceptual_hash(image: Image.Image) -> Hash:
    """The 256 bits that the pipeline's perceptual dedup compares."""
    return np.asarray(imagehash.phash(image, hash_size=16).hash, dtype=bool).ravel()


def grey_entropy(image: Image.Image) -> float:
    """Shannon entropy of the 8-bit grey histogram, in bits."""
    counts = np.array(image.convert("L").histogram(), dtype=np.float64)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def encode(image: Image.Image, form: str, quality: int = 90) -> bytes:
    """The picture as a file of format `form`; `quality` counts for JPEG and WebP."""
    stream = io.BytesIO()
    options = {} if form in ("PNG", "GIF") else {"quality": quality}
    image.save(stream, form, **options)
    return stream.getvalue()


class Studio:
    """Draws pictures one by one, each unlike all before it.

    Scenes of one photograph overlap little, show something, and every picture stands at least
    `MIN_HASH_DISTANCE` bits of perceptual hash from every other.
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
        """Names of the photographs of one theme."""
        return [name for name, one in self.photographs.items() if one.theme == theme]

    def scene(
        self, name: str, *, long_side: tuple[int, int] = (120, 320), form: str | None = None
    ) -> Picture | None:
        """A new scene of one photograph, or None when it has no room for another."""
        for _ in range(TRIES):
            box = self._box(name)
            if self._taken(name, box):
                continue
            cut = self._treat(self.pixels[name].crop(box))
            if np.asarray(cut.convert("L")).std() < MIN_STD or grey_entropy(cut) < MIN_ENTROPY:
                continue
            picture = self._develop(self._resize(cut, long_side), name, box, form)
            if self._admit(picture):
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
        """A new scene of one of the photographs `names` (default: all) that still have room."""
        while open_names := [n for n in names or self.photographs if n not in self.exhausted]:
            name = open_names[int(self.rng.integers(len(open_names)))]
            if picture := self.scene(name, long_side=long_side, form=form):
                return picture
        raise RuntimeError(f"no photograph has room for another scene: {names or 'all'}")

    def digit(self, label: int, *, form: str | None = None) -> Picture:
        """A new handwritten digit; each of scikit-learn's digits is written once at most."""
        strokes = self._strokes[label].pop()
        for _ in range(TRIES):
            image = ink.write(self.rng, strokes)
            text = captions.digit(self.rng, label)
            picture = self._encoded(image, f"digit-{label}", text, form)
            if self._admit(picture):
                return picture
        raise RuntimeError(f"no digit {label} unlike the others found in {TRIES} tries")

    def _box(self, name: str) -> Box:
        width, height = self.pixels[name].size
        short = min(width, height)
        smallest, largest = max(60.0, short / 14), 0.6 * short
        # the square favours small scenes: few large ones fit without overlap
        side = smallest * (largest / smallest) ** (self.rng.random() ** 2)
        stretch = 1.5 ** self.rng.uniform(-0.5, 0.5)
        wide, high = round(side * stretch), round(side / stretch)
        left, top = self.rng.integers(width - wide + 1), self.rng.integers(height - high + 1)
        return int(left), int(top), int(left) + wide, int(top) + high

    def _taken(self, name: str, box: Box) -> bool:
        """Whether `box` overlaps a scene already cut from the photograph."""
        if not self._boxes[name]:
            return False
        others = np.array(self._boxes[name])
        wide = np.minimum(others[:, 2], box[2]) - np.maximum(others[:, 0], box[0])
        high = np.minimum(others[:, 3], box[3]) - np.maximum(others[:, 1], box[1])
        common = np.maximum(wide, 0) * np.maximum(high, 0)
        area = (box[2] - box[0]) * (box[3] - box[1])
        areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
        return bool((common / (areas + area - common) >= MAX_IOU).any())

    def _treat(self, cut: Image.Image) -> Image.Image:
        """What sites do to a picture: mirror it, tone it, tint a grey one.

        Gravel is all alike: without tints an encoder takes any two scenes of it for copies.
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

    def _develop(self, image: Image.Image, name: str, box: Box, form: str | None) -> Picture:
        one = self.photographs[name]
        where = captions.region(box, self.pixels[name].size)
        text = captions.scene(self.rng, one.title, one.word, where)
        return self._encoded(image, name, text, form)

    def _encoded(self, image: Image.Image, photo: str, text: str, form: str | None) -> Picture:
        drawn = str(self.rng.choice(["JPEG", "PNG", "WEBP"], p=[0.84, 0.08, 0.08]))
        form = form or drawn
        data = encode(image, form, int(self.rng.integers(72, 96)))
        return Picture(photo, text, data, EXTENSIONS[form])

    def _admit(self, picture: Picture) -> bool:
        """Note the picture's hash; False when a picture before it is too near."""
        bits = perceptual_hash(picture.image())
        if (np.count_nonzero(self._hashes != bits, axis=1) < MIN_HASH_DISTANCE).any():
            return False
        self._hashes = np.vstack([self._hashes, bits])
        return True
