"""Saves weights for the package: float16, with the metadata that are needed to use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor


def save_half(state: dict[str, Tensor], out: Path, about: dict[str, Any]) -> None:
    """Save weights as float16, with each value of `about` as JSON in the metadata of the file."""
    half = {
        name: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for name, value in state.items()
    }
    metadata = {"format": "pt", "license": "Apache-2.0"}
    metadata |= {key: json.dumps(value) for key, value in about.items()}
    part = out.with_suffix(".part")
    save_file(half, part, metadata=metadata)
    part.replace(out)
