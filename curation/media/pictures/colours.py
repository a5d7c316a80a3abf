"""Colours of images to sRGB, by their ICC profiles, as browsers show them."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageCms

MAX_PROFILE_BYTES = 16 * 2**20
"""Larger profiles are not used; the largest that a JPEG can hold has 255 parts of 64 kB."""
SAME_COLOUR = 2
"""Largest difference, of 255, of a profile whose colours are taken for sRGB. The many profiles named
sRGB differ from each other by one."""
_SPACES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}
# A grey image may have a profile for RGB. Browsers ignore all other profiles of another colour space.
_USABLE = {"L": ("L", "RGB"), "RGB": ("RGB",), "CMYK": ("CMYK",)}
_DEVICE_CLASSES = ("scnr", "mntr", "prtr", "spac")
_VERSION_2 = b"\2\x40\0\0"
"""lcms makes the darkest colour of every profile black in one of version 4; browsers do not."""
_CUBE_SIDE = 9
_CACHED_TRANSFORMS = 8


@dataclass(frozen=True)
class _Profile:
    digest: bytes
    content: bytes = field(compare=False, repr=False)


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return an image in sRGB; without a usable profile, return it as it is.

    Args:
        image: of mode L, LA, RGB, RGBA, CMYK or LAB.
        profile: the ICC profile of the file. A broken one is ignored, as in browsers.
    """
    if image.mode == "LAB":
        return _apply(image, _lab_transform())
    transform = srgb_transform(profile, image.mode.removesuffix("A"))
    if transform is None:
        return image
    shown = _apply(image.convert(transform.input_mode), transform)
    if image.mode in ("LA", "RGBA"):
        shown.putalpha(image.getchannel("A"))
    return shown


def srgb_transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return how images of a mode (L, RGB, CMYK) become sRGB, or None if they need no change."""
    if not profile or len(profile) > MAX_PROFILE_BYTES or mode not in _USABLE:
        return None
    if int.from_bytes(profile[:4]) > len(profile):
        return None
    return _transform(_Profile(hashlib.sha256(profile).digest(), profile), mode)


@lru_cache(_CACHED_TRANSFORMS)
def _transform(profile: _Profile, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile.content))
        read_as = _SPACES.get(source.profile.xcolor_space.strip(), "")
        is_usable = source.profile.device_class.strip() in _DEVICE_CLASSES
        if not is_usable or read_as not in _USABLE[mode]:
            return None
        intent = ImageCms.Intent.PERCEPTUAL
        if not source.profile.is_intent_supported(intent, ImageCms.Direction.INPUT):
            intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        transform = ImageCms.buildTransform(source, _srgb(), read_as, "RGB", intent)
        return None if _changes_nothing(transform) else transform
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return None


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    if transform.input_mode == "CMYK":
        return False
    levels = np.linspace(0, 255, _CUBE_SIDE).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, _CUBE_SIDE, 3)
    probe = Image.fromarray(cube)
    if transform.input_mode == "L":
        probe = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    shown = np.asarray(_apply(probe, transform), int)
    return bool(np.abs(shown - np.asarray(probe.convert("RGB"), int)).max() <= SAME_COLOUR)


def _apply(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    shown = ImageCms.applyTransform(image, transform)
    assert shown is not None
    return shown


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return ImageCms.ImageCmsProfile(io.BytesIO(profile[:8] + _VERSION_2 + profile[12:]))


@cache
def _lab_transform() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), _srgb(), "LAB", "RGB")
