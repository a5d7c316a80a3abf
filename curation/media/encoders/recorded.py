"""The encoder that made stored vectors, as their manifest records it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from curation.media.encoders import ENCODERS
from curation.media.encoders.params import EncoderSpec


def recorded_spec(params: Any, identity: Mapping[str, Any] | None) -> EncoderSpec | None:
    """Return the encoder of stored vectors; None if it is of no known form or family.

    A family of a plug-in is known once the plug-in was loaded, as a recipe that names it does.

    Args:
        params: of the encoder in the manifest of its table.
        identity: that `embed` recorded. Its checksum says which program a recipe has trusted: of what
            decides no row, manifests keep nothing.
    """
    if not isinstance(params, dict):
        return None
    try:
        spec = EncoderSpec(**params)
    except ValidationError:
        return None
    if spec.family not in ENCODERS:
        return None
    if identity is not None and ENCODERS[spec.family].program:
        return spec.model_copy(update={"sha256": identity["weights_sha256"]})
    return spec
