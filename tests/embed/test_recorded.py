"""Manifests say which encoder made their vectors, so that it is loaded again without a recipe."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from curation.engine.device import CPU
from curation.engine.params_base import manifest_params
from curation.media.encoders.encoder import load_encoder
from curation.media.encoders.params import EncoderSpec
from curation.media.encoders.recorded import recorded_spec


class Means(torch.nn.Module):
    """The mean of each channel."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean((2, 3))


def test_a_program_is_loaded_by_the_checksum_that_its_recipe_trusted(tmp_path: Path) -> None:
    path = tmp_path / "means.pt"
    torch.jit.script(Means()).save(str(path))  # type: ignore[no-untyped-call]
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    spec = EncoderSpec(model="torchscript", weights=str(path), sha256=sha256, input_size=32)
    identity = load_encoder(spec, CPU).identity
    recorded = recorded_spec(manifest_params(spec), identity)
    assert recorded is not None
    assert load_encoder(recorded, CPU).identity == identity


def test_a_model_and_what_is_none() -> None:
    spec = EncoderSpec(model="copy_micro")
    assert recorded_spec(manifest_params(spec), {"weights_sha256": "0" * 64}) == spec
    # As one of a plug-in that this process has not loaded.
    assert recorded_spec({"model": "unknown_family/small"}, {"weights_sha256": "none"}) is None
    assert recorded_spec(None, None) is None
    assert recorded_spec({"model": "copy_micro", "no_such_field": 1}, None) is None
