"""ICC profiles of RGB spaces that a file describes by numbers (gAMA, cHRM and cICP of PNG)."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Point = tuple[float, float]


class Primaries(NamedTuple):
    """Chromaticities x, y (CIE 1931)."""

    white: Point
    red: Point
    green: Point
    blue: Point


SRGB = Primaries((0.3127, 0.329), (0.64, 0.33), (0.3, 0.6), (0.15, 0.06))
P3 = Primaries((0.3127, 0.329), (0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
BT2020 = Primaries((0.3127, 0.329), (0.708, 0.292), (0.17, 0.797), (0.131, 0.046))
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""Parameters g, a, b, c, d of a curve of ICC.1:2022, table 68: type 3."""
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_HEADER_BYTES = 128


def matrix_profile(primaries: Primaries, curve: tuple[float, ...]) -> bytes:
    """Return an ICC profile (version 4) of a space with three primaries and one curve.

    Args:
        primaries: of the space, and its white.
        curve: (gamma,), or the five parameters of a curve such as SRGB_CURVE.

    Raises:
        ValueError: the primaries are on one line, or a luminance is zero.
    """
    columns = adapted_xyz(primaries)
    kind = 0 if len(curve) == 1 else 3
    curve_tag = b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + _fixed(curve)
    tags = {b"wtpt": b"XYZ \0\0\0\0" + _fixed(_D50)}
    for name, column in zip((b"r", b"g", b"b"), columns.T, strict=True):
        tags |= {name + b"XYZ": b"XYZ \0\0\0\0" + _fixed(column), name + b"TRC": curve_tag}
    return profile(tags)


def xyz_of(primaries: Primaries) -> npt.NDArray[np.float64]:
    """Return XYZ of red, green and blue as columns (3, 3); those of white add up to Y = 1.

    Raises:
        ValueError: the primaries are on one line, or a luminance is zero.
    """
    if any(y <= 0 for _, y in primaries):
        raise ValueError("a luminance is zero")
    white, *colours = _points(primaries)
    matrix = np.column_stack(colours)
    if abs(np.linalg.det(matrix)) < 1e-6:
        raise ValueError("the primaries are on one line")
    scaled: npt.NDArray[np.float64] = matrix * np.linalg.solve(matrix, white)
    return scaled


def adapted_xyz(primaries: Primaries) -> npt.NDArray[np.float64]:
    """Return XYZ of red, green and blue as columns (3, 3), adapted to D50; errors as `xyz_of`."""
    scaled, white = xyz_of(primaries), _points(primaries)[0]
    cones = np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white))
    adapted: npt.NDArray[np.float64] = np.linalg.inv(_BRADFORD) @ cones @ _BRADFORD @ scaled
    return adapted


def _points(primaries: Primaries) -> list[npt.NDArray[np.float64]]:
    return [np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in primaries]


def _fixed(values: npt.NDArray[np.float64] | tuple[float, ...]) -> bytes:
    """Return numbers as s15Fixed16."""
    numbers = np.clip(np.asarray(values) * 65536, -(2**31), 2**31 - 1).round().astype(">i4")
    return bytes(numbers.tobytes())


def profile(tags: dict[bytes, bytes]) -> bytes:
    """Return an ICC profile (version 4) of an RGB space with some tags."""
    at = _HEADER_BYTES + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(data), len(content))
        data += content
    head = struct.pack(">I4sI4s4s4s", at + len(data), b"", 0x04200000, b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + _fixed(_D50)
    return head.ljust(_HEADER_BYTES, b"\0") + table + data
