"""Weights as they are shipped: float16, with what a reader must know to use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor


def save_half(state: dict[str, Tensor], out: Path, about: dict[str, Any]) -> None:
    """Write weights as float16; `about` goes into the file's metadata as JSON, by key."""
    half = {
        name: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for name, value in state.items()
    }
    metadata = {"format": "pt", "license": "Apache-2.0"}
    metadata |= {key: json.dumps(value) for key, value in about.items()}
    part = out.with_suffix(".part")
    save_file(half, part, metadata=metadata)
    part.replace(out)
