"""The edits that make planted copies, by name: what people do to pictures that they pass on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image

from curation.engine.digest import digest
from curation.inspect.audit import layers, pixels, styles
from curation.inspect.audit.pixels import Rng, saved

Strength = Literal["easy", "medium", "hard"]
STRENGTHS: tuple[Strength, ...] = ("easy", "medium", "hard")
Made: TypeAlias = Image.Image | bytes
QUALITY = 90
"""JPEG quality of a copy whose edit does not choose its own coding."""


@dataclass(frozen=True)
class Edit:
    """How much of a picture an edit changes, and the function that does: RGB picture, random
    numbers → RGB picture, or the bytes of a file."""

    strength: Strength
    make: Callable[[Image.Image, Rng], Made]


def chain(*makes: Callable[[Image.Image, Rng], Made]) -> Callable[[Image.Image, Rng], Made]:
    """Return the edit that makes several, one after the other; only the last may give a file."""

    def make(image: Image.Image, rng: Rng) -> Made:
        made: Made = image
        for one in makes:
            assert isinstance(made, Image.Image)
            made = one(made, rng)
        return made

    return make


def _file(kind: str, quality: int) -> Callable[[Image.Image, Rng], bytes]:
    return partial(_saved, kind=kind, quality=quality)


def _saved(image: Image.Image, rng: Rng, kind: str, quality: int) -> bytes:
    return saved(image, kind, quality)


EDITS: dict[str, Edit] = {
    "jpeg_q60": Edit("easy", _file("JPEG", 60)),
    "webp_q75": Edit("easy", _file("WEBP", 75)),
    "resize_half": Edit("easy", partial(pixels.resize, wide=0.5, high=0.5)),
    "upscale_1.4": Edit("easy", partial(pixels.resize, wide=1.4, high=1.4)),
    "crop_centre_90": Edit("easy", partial(pixels.crop_centre, part=0.9)),
    "brightness_up": Edit("easy", partial(pixels.light, brightness=1.3)),
    "brightness_down": Edit("easy", partial(pixels.light, brightness=0.7)),
    "contrast": Edit("easy", partial(pixels.light, contrast=1.4)),
    "gamma": Edit("easy", partial(pixels.gamma, power=0.7)),
    "desaturate": Edit("easy", partial(pixels.light, colour=0.4)),
    "greyscale": Edit("easy", partial(pixels.light, colour=0.0)),
    "blur_1": Edit("easy", partial(pixels.blur, sigma=1.0)),
    "vignette": Edit("easy", partial(styles.vignette, dark=0.5)),
    "posterise": Edit("easy", partial(styles.posterise, bits=3)),
    "jpeg_q20": Edit("medium", _file("JPEG", 20)),
    "crop_centre_75": Edit("medium", partial(pixels.crop_centre, part=0.75)),
    "crop_random_60": Edit("medium", partial(pixels.crop_random, area=0.6)),
    "flip": Edit("medium", pixels.flip),
    "blur_2.5": Edit("medium", partial(pixels.blur, sigma=2.5)),
    "noise": Edit("medium", partial(pixels.noise, sigma=18.0)),
    "border": Edit("medium", layers.border),
    "logo": Edit("medium", layers.logo),
    "text_line": Edit("medium", layers.text_line),
    "watermark": Edit("medium", layers.watermark),
    "rotate_4": Edit("medium", partial(pixels.rotate, degrees=4.0)),
    "stretch_1.25": Edit("medium", partial(pixels.resize, wide=1.25, high=1.0)),
    "lens": Edit("medium", partial(styles.lens, bulge=0.12)),
    "wave": Edit("medium", partial(styles.wave, height=0.03)),
    "motion_blur": Edit("medium", partial(styles.motion_blur, part=0.06)),
    "dither": Edit("medium", partial(styles.dither, colours=16)),
    "pixelate": Edit("hard", partial(styles.pixelate, across=28)),
    "screen_photo": Edit("hard", styles.screen_photo),
    "crop_random_40": Edit("hard", partial(pixels.crop_random, area=0.4)),
    "rotate_90": Edit("hard", pixels.quarter_turn),
    "meme_text": Edit("hard", layers.meme),
    "screenshot_browser": Edit("hard", layers.browser),
    "screenshot_phone": Edit("hard", layers.phone),
    "crop85_flip_q40": Edit(
        "hard", chain(partial(pixels.crop_centre, part=0.85), pixels.flip, _file("JPEG", 40))
    ),
    "crop60_text_q30": Edit(
        "hard",
        chain(partial(pixels.crop_random, area=0.6), layers.text_line, _file("JPEG", 30)),
    ),
    "meme_half_grey": Edit(
        "hard",
        chain(
            layers.meme,
            partial(pixels.resize, wide=0.5, high=0.5),
            partial(pixels.light, colour=0.0),
        ),
    ),
    "flip_phone_q40": Edit("hard", chain(pixels.flip, layers.phone, _file("JPEG", 40))),
    "rotate_8_crop_light": Edit(
        "hard",
        chain(
            partial(pixels.rotate, degrees=8.0),
            partial(pixels.crop_centre, part=0.8),
            partial(pixels.light, brightness=1.25, contrast=1.2),
        ),
    ),
}
"""Another edit is another line here."""


def edited(image: Image.Image, name: str, image_id: str, seed: int) -> bytes:
    """Return the file of one edited copy, the same for the same picture, edit and seed.

    Args:
        image: the stored picture in RGB.
        name: a name in EDITS.
        image_id: identity of the picture.
        seed: of the audit.
    """
    rng = np.random.default_rng(int(digest([seed, image_id, name], 16), 16))
    made = EDITS[name].make(image, rng)
    return made if isinstance(made, bytes) else saved(made, "JPEG", QUALITY)
