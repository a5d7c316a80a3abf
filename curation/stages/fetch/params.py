"""The block `fetch` of a recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from curation.engine.params_base import StrictModel, execution_only, input_file
from curation.engine.stage import FunctionPath, Read, Stage
from curation.media.web.params import UrlParams
from curation.stages.fetch.detectors import DETECTORS


class Resize(StrictModel):
    """How stored images are made smaller, as img2dataset's resizer does it."""

    mode: Literal["no", "keep_ratio", "keep_ratio_largest", "center_crop"] = "keep_ratio_largest"
    size: int = Field(default=512, ge=16, le=8192)


class FaceParams(StrictModel):
    """Which faces are blurred: those of the source's column `faces`, and those of a detector.

    `haar` comes with OpenCV and finds upright faces seen from the front; `yunet` is better and needs
    its network, a file (`weights`); it keeps what it is `at_least` so sure of.
    """

    listed: bool = True
    detector: str | None = None
    weights: str | None = input_file(None)
    at_least: float = Field(default=0.6, ge=0, le=1)

    @model_validator(mode="after")
    def _has_weights(self) -> FaceParams:
        needs = self.detector is not None and DETECTORS[self.detector].weights
        if needs != (self.weights is not None):
            trained = ", ".join(name for name, entry in DETECTORS.items() if entry.weights)
            raise ValueError(
                f"`weights` is the file of a detector that needs one ({trained}), and of no other"
            )
        return self

    @field_validator("detector")
    @classmethod
    def _known(cls, detector: str | None) -> str | None:
        return None if detector is None else DETECTORS.check(detector)


class PerHost(StrictModel):
    """How much one host is asked: requests at once, and requests a second (null: no bound)."""

    concurrency: int = Field(default=4, ge=1, le=1024)
    per_second: float | None = Field(default=10.0, gt=0)


class FetchParams(StrictModel):
    """Bounds within which bytes of strangers are taken, and how strangers are treated.

    `allow_hosts` opens private networks. `retries` are passes over what failed in passing, each after
    all other rows of a fragment. `contact`, an address or a page, tells hosts who asks; without it only
    `allow_hosts` are asked. `opt_out` are directives of X-Robots-Tag that say no. A host that wishes to
    be asked slowly is asked only for what `patience_s` leaves time for.
    """

    timeout_s: float = Field(default=10.0, gt=0, le=600)
    retries: int = Field(default=1, ge=0, le=10)
    max_bytes: int = Field(default=32 * 2**20, ge=1024, le=2**30)
    max_pixels: int = Field(default=100_000_000, ge=1024, le=500_000_000)
    max_redirects: int = Field(default=5, ge=0, le=20)
    allow_hosts: list[str] = []
    resize: Resize = Resize()
    quality: int = Field(default=95, ge=1, le=100)
    faces: FaceParams = FaceParams()
    robots: bool = True
    opt_out: list[str] = ["noai", "noimageai", "noindex", "noimageindex"]
    patience_s: float = Field(default=600.0, ge=0)
    contact: str | None = execution_only(None, pattern=r"^[ -~]+$")
    user_agent: str = execution_only("curation/0.1", pattern=r"^[A-Za-z0-9_.-]+(/[ -~]*)?$")
    per_host: PerHost = execution_only(PerHost())
    concurrency: int = execution_only(256, ge=1, le=1024)

    @property
    def header(self) -> str:
        """What hosts are told of who asks."""
        return f"{self.user_agent} (+{self.contact})" if self.contact else self.user_agent


class FetchStep(FetchParams):
    """What the stage fetch gets; `redirects` says where none may lead."""

    redirects: UrlParams = execution_only(UrlParams())


STAGE = Stage(
    number=10,
    name="fetch",
    kind="map",
    params=FetchStep,
    writes="images",
    reads=(Read("pairs"),),
    version=2,
    work_folder=True,
    versions=lambda params: DETECTORS.versions(
        [params.faces.detector] if params.faces.detector else []
    ),
    units=FunctionPath("curation.stages.fetch.stage:units"),
    chains=FunctionPath("curation.stages.fetch.stage:chains"),
    progress=FunctionPath("curation.stages.fetch.stage:progress"),
)
