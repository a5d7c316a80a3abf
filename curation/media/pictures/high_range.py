"""ICC profiles of colours of high dynamic range (PQ, HLG), as browsers show them on usual screens."""

from __future__ import annotations

import struct
from functools import cache

import numpy as np
import numpy.typing as npt

from curation.media.pictures.matrix_profile import (
    BT2020,
    SRGB,
    Primaries,
    adapted_xyz,
    profile,
    xyz_of,
)

Light = npt.NDArray[np.float64]
PQ, HLG = 16, 18
"""ITU-T H.273: transfer characteristics of ITU-R BT.2100."""
_PEAK = 1000 / 203
"""The brightest light, as a multiple of the white of a page (ITU-R BT.2408)."""
_KNEE = 0.65
_GRID = 33
"""As many as lcms takes for its own tables, so that it interpolates once."""
_WHOLE = 65535
_XYZ_ONE = 32768


@cache
def high_range_profile(primaries: Primaries, curve: int) -> bytes:
    """Return an ICC profile with a table of the colours that Chromium shows.

    Args:
        primaries: of the space, and its white.
        curve: PQ or HLG.
    """
    levels = np.linspace(0, 1, _GRID)
    codes = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    matrix = xyz_of(primaries)
    light = _of_pq(codes) if curve == PQ else _of_hlg(codes, matrix[1])
    light = _on_screen(light, np.linalg.inv(xyz_of(BT2020)) @ matrix)
    shown = (light @ (np.linalg.inv(xyz_of(SRGB)) @ matrix).T).clip(0, 1)
    xyz = (shown @ adapted_xyz(SRGB).T * _XYZ_ONE).round().astype(">u2")
    ends = struct.pack(">HH", 0, _WHOLE) * 3
    identity = struct.pack(">9i", *(0x10000 * np.eye(3, dtype=int)).ravel().tolist())
    table = struct.pack(">4s4xBBBx", b"mft2", 3, 3, _GRID) + identity + struct.pack(">HH", 2, 2)
    return profile({b"A2B0": table + ends + xyz.tobytes() + ends})


def _of_pq(codes: Light) -> Light:
    """Return light as a multiple of the white of a page, by ITU-R BT.2100, table 4."""
    power = codes ** (32 / 2523)
    return (np.maximum(power - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * power)) ** (
        8192 / 1305
    ) * (10_000 / 203)


def _of_hlg(codes: Light, luminances: Light) -> Light:
    """Return light as a multiple of the white of a page, by ITU-R BT.2100, table 5."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    scene = np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - c) / a) + b) / 12)
    return scene * (scene @ luminances)[:, None] ** 0.2 * _PEAK


def _on_screen(light: Light, to_bt2020: Light) -> Light:
    """Return light from 0 to 1: the white of a page at the half, and what is brighter compressed.

    This is the reference white tone mapping of SMPTE ST 2094-50 for a screen without high range: half
    of the light up to the white of a page, then a Bézier curve to the peak. The largest of the three
    numbers of BT.2020 decides.
    """
    largest = np.maximum((light @ to_bt2020.T).max(axis=1), 1e-9)
    middle_x, middle_y = 1 + _KNEE, (1 + _KNEE) / 2
    # Where the curve is at x: the root of its polynomial.
    bend, slope = 1 - 2 * middle_x + _PEAK, 2 * (middle_x - 1)
    bright = largest.clip(1, _PEAK)
    at = (-slope + np.sqrt(slope**2 - 4 * bend * (1 - bright))) / (2 * bend)
    curve = (1 - at) ** 2 / 2 + 2 * at * (1 - at) * middle_y + at**2
    shown = np.where(largest <= 1, largest / 2, curve)
    compressed: Light = light * (shown / largest)[:, None]
    return compressed
