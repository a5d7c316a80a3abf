"""Defaults of a recipe that fetches no pixels: those that need pixels are left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curation.stages.screen.filters import DEFAULT_FILTERS, FILTERS


def defaults_without_pixels(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe with other defaults where a default needs pixels.

    Args:
        spec: the recipe as YAML gave it, with `fetch: {pixels: none}`.
    """
    encoders = _block(_block(spec, "embed"), "encoders")
    dedup: dict[str, Any] = {"pixels": False, "perceptual": None, "verify": None}
    if "copy" not in encoders:
        dedup["near"] = None
    captions = [name for name in DEFAULT_FILTERS if FILTERS[name].caption]
    screen = {"perceptual_hash": False, "filters": captions}
    return {
        **spec,
        "dedup": dedup | _block(spec, "dedup"),
        "screen": screen | _block(spec, "screen"),
    }


def has_no_pixels(spec: Any) -> bool:
    """Whether a recipe, as YAML gave it, leaves pixels out."""
    return isinstance(spec, dict) and _block(spec, "fetch").get("pixels") == "none"


def _block(spec: Mapping[str, Any], name: str) -> dict[str, Any]:
    block = spec.get(name)
    return block if isinstance(block, dict) else {}
