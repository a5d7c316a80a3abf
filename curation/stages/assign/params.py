"""What the stage assign gets."""

from __future__ import annotations

from curation.algorithms.kmeans.params import AssignParams
from curation.engine.stage import FunctionPath, Read, Stage
from curation.media.encoders.params import EMBEDDINGS


class AssignStep(AssignParams):
    """What the stage assign gets."""

    encoder: str
    """Name of the encoder whose vectors are assigned to clusters."""


STAGE = Stage(
    number=65,
    name="assign",
    kind="map",
    params=AssignStep,
    writes="assignments",
    reads=(Read(EMBEDDINGS), Read("centroids", whole=True)),
    gpu=True,
    members=lambda params: (params.encoder,),
    joint_bytes=FunctionPath("curation.stages.assign.joint_bytes:bytes_at_once"),
)
