"""The edits that make injected copies, by name: what people do to images before they share them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image

from curation.inspect.audit import effects, overlays, transforms
from curation.inspect.audit.transforms import Rng, encode_image
from curation.store.digest import digest

Strength = Literal["easy", "medium", "hard"]
STRENGTHS: tuple[Strength, ...] = ("easy", "medium", "hard")
ImageOrFile: TypeAlias = Image.Image | bytes
EditFunction: TypeAlias = Callable[[Image.Image, Rng], ImageOrFile]
DEFAULT_QUALITY = 90
"""JPEG quality of a copy whose edit does not encode it."""


@dataclass(frozen=True)
class Edit:
    """How much an edit changes an image, and the function that does it.

    The function gets an RGB image and a random generator. It returns an RGB image, or the bytes of an
    image file.
    """

    strength: Strength
    apply: EditFunction


def chain(*functions: EditFunction) -> EditFunction:
    """Return an edit that applies several edits in turn; only the last may return a file."""

    def apply(image: Image.Image, rng: Rng) -> ImageOrFile:
        edited: ImageOrFile = image
        for function in functions:
            assert isinstance(edited, Image.Image)
            edited = function(edited, rng)
        return edited

    return apply


def _encode(file_format: str, quality: int) -> Callable[[Image.Image, Rng], bytes]:
    return partial(_encoded, file_format=file_format, quality=quality)


def _encoded(image: Image.Image, rng: Rng, file_format: str, quality: int) -> bytes:
    return encode_image(image, file_format, quality)


EDITS: dict[str, Edit] = {
    "jpeg_q60": Edit("easy", _encode("JPEG", 60)),
    "webp_q75": Edit("easy", _encode("WEBP", 75)),
    "resize_half": Edit("easy", partial(transforms.resize, width_scale=0.5, height_scale=0.5)),
    "upscale_1.4": Edit("easy", partial(transforms.resize, width_scale=1.4, height_scale=1.4)),
    "crop_centre_90": Edit("easy", partial(transforms.crop_centre, fraction=0.9)),
    "brightness_up": Edit("easy", partial(transforms.adjust, brightness=1.3)),
    "brightness_down": Edit("easy", partial(transforms.adjust, brightness=0.7)),
    "contrast": Edit("easy", partial(transforms.adjust, contrast=1.4)),
    "gamma": Edit("easy", partial(transforms.gamma, exponent=0.7)),
    "desaturate": Edit("easy", partial(transforms.adjust, colour=0.4)),
    "greyscale": Edit("easy", partial(transforms.adjust, colour=0.0)),
    "blur_1": Edit("easy", partial(transforms.blur, sigma=1.0)),
    "vignette": Edit("easy", partial(effects.vignette, darkening=0.5)),
    "posterise": Edit("easy", partial(effects.posterise, bits=3)),
    "jpeg_q20": Edit("medium", _encode("JPEG", 20)),
    "crop_centre_75": Edit("medium", partial(transforms.crop_centre, fraction=0.75)),
    "crop_random_60": Edit("medium", partial(transforms.crop_random, area=0.6)),
    "flip": Edit("medium", transforms.flip),
    "blur_2.5": Edit("medium", partial(transforms.blur, sigma=2.5)),
    "noise": Edit("medium", partial(transforms.noise, sigma=18.0)),
    "border": Edit("medium", overlays.border),
    "logo": Edit("medium", overlays.logo),
    "text_line": Edit("medium", overlays.text_line),
    "watermark": Edit("medium", overlays.watermark),
    "rotate_4": Edit("medium", partial(transforms.rotate, degrees=4.0)),
    "stretch_1.25": Edit("medium", partial(transforms.resize, width_scale=1.25, height_scale=1.0)),
    "lens": Edit("medium", partial(effects.lens, distortion=0.12)),
    "wave": Edit("medium", partial(effects.wave, amplitude=0.03)),
    "motion_blur": Edit("medium", partial(effects.motion_blur, fraction=0.06)),
    "dither": Edit("medium", partial(effects.dither, colours=16)),
    "pixelate": Edit("hard", partial(effects.pixelate, tiles=28)),
    "screen_photo": Edit("hard", effects.screen_photo),
    "crop_random_40": Edit("hard", partial(transforms.crop_random, area=0.4)),
    "rotate_90": Edit("hard", transforms.quarter_turn),
    "meme_text": Edit("hard", overlays.meme),
    "screenshot_browser": Edit("hard", overlays.browser_window),
    "screenshot_phone": Edit("hard", overlays.phone_screen),
    "crop85_flip_q40": Edit(
        "hard",
        chain(partial(transforms.crop_centre, fraction=0.85), transforms.flip, _encode("JPEG", 40)),
    ),
    "crop60_text_q30": Edit(
        "hard",
        chain(partial(transforms.crop_random, area=0.6), overlays.text_line, _encode("JPEG", 30)),
    ),
    "meme_half_grey": Edit(
        "hard",
        chain(
            overlays.meme,
            partial(transforms.resize, width_scale=0.5, height_scale=0.5),
            partial(transforms.adjust, colour=0.0),
        ),
    ),
    "flip_phone_q40": Edit(
        "hard", chain(transforms.flip, overlays.phone_screen, _encode("JPEG", 40))
    ),
    "rotate_8_crop_light": Edit(
        "hard",
        chain(
            partial(transforms.rotate, degrees=8.0),
            partial(transforms.crop_centre, fraction=0.8),
            partial(transforms.adjust, brightness=1.25, contrast=1.2),
        ),
    ),
}
"""To add an edit, write its function and add a line here."""

EDIT_NAMES = tuple(EDITS)


def apply_edit(image: Image.Image, name: str, image_id: str, seed: int) -> bytes:
    """Return the file of one edited copy. The same image, edit and seed give the same bytes.

    Args:
        image: the stored image in RGB.
        name: a name in EDITS.
        image_id: id of the image.
        seed: of the audit.
    """
    rng = np.random.default_rng(int(digest([seed, image_id, name], 16), 16))
    edited = EDITS[name].apply(image, rng)
    return edited if isinstance(edited, bytes) else encode_image(edited, "JPEG", DEFAULT_QUALITY)
