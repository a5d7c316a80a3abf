"""`imported`: vectors that the user brings. They are read from files, and nothing can be embedded."""

from __future__ import annotations

from typing import Any, NoReturn

from curation.errors import RecipeError
from curation.media.encoders.params import EncoderSpec

ARCHITECTURE = "imported"
"""What stands in the identity of imported vectors for the name of a model."""


def identity_of(sha256: str, dim: int) -> dict[str, Any]:
    """Return the identity of imported vectors: their content.

    Args:
        sha256: digest of all their files.
        dim: their dimension.
    """
    return {
        "architecture": ARCHITECTURE,
        "weights_sha256": sha256,
        "dim": dim,
        "preprocessing": {},
    }


def load(name: str, spec: EncoderSpec) -> NoReturn:
    """Refuse to load an encoder: there is none.

    Raises:
        RecipeError: always.
    """
    raise RecipeError(
        "These vectors are imported, and no model of theirs is known here, so nothing can be embedded "
        "by it. Give vectors instead (curation search --vectors FILE), or name an encoder with a "
        "`model`."
    )


skeleton = load
