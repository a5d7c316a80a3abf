"""What the stage index gets."""

from __future__ import annotations

from curation.engine.params_base import StrictModel
from curation.engine.stage import FunctionPath, Read, Stage
from curation.media.encoders.params import EMBEDDINGS


class IndexStep(StrictModel):
    """What the stage index gets."""

    encoder: str
    """Name of the encoder whose vectors are indexed."""


STAGE = Stage(
    number=68,
    name="index",
    kind="map",
    params=IndexStep,
    writes="lists",
    reads=(Read(EMBEDDINGS), Read("codebooks", whole=True)),
    gpu=True,
    members=lambda params: (params.encoder,),
    joint_bytes=FunctionPath("curation.stages.index.joint_bytes:bytes_at_once"),
)
