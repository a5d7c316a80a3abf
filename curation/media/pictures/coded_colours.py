"""Colours that a file names by codes of ITU-T H.273: cICP of PNG, and nclx of AVIF and HEIC."""

from __future__ import annotations

from collections.abc import Mapping

from curation.media.pictures.high_range import HLG, PQ, high_range_profile
from curation.media.pictures.matrix_profile import BT2020, P3, SRGB, SRGB_CURVE, matrix_profile

Curves = Mapping[int, tuple[float, ...]]
"""Curves of standard dynamic range, as `matrix_profile` takes them, by their code."""
_PRIMARIES = {1: SRGB, 9: BT2020, 12: P3}
_CURVES: Curves = {4: (2.2,), 5: (2.8,), 8: (1.0,), 13: SRGB_CURVE}
_VIDEO, _NOT_SAID = (1, 6, 14, 15), 2
CURVES_OF_PNG: Curves = {**_CURVES, **dict.fromkeys((*_VIDEO, 11), (2.4,))}
"""Browsers show BT.709 and its like in PNG as screens show video (BT.1886)."""
CURVES_OF_BOXES: Curves = {**_CURVES, **dict.fromkeys((*_VIDEO, _NOT_SAID), SRGB_CURVE)}
"""Browsers show them in AVIF as sRGB."""


def is_known(primaries: int, curve: int, curves: Curves) -> bool:
    """Whether codes name colours that are read."""
    return primaries in _PRIMARIES and (curve in curves or curve in (PQ, HLG))


def coded_profile(primaries: int, curve: int, curves: Curves) -> bytes | None:
    """Return the ICC profile of codes; None for sRGB, and for codes that are not read."""
    if not is_known(primaries, curve, curves):
        return None
    space = _PRIMARIES[primaries]
    if curve in (PQ, HLG):
        return high_range_profile(space, curve)
    is_srgb = (space, curves[curve]) == (SRGB, SRGB_CURVE)
    return None if is_srgb else matrix_profile(space, curves[curve])
