"""The block `fetch` of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from curation.engine.params_base import (
    StrictModel,
    execution_only,
    input_file,
    refuse_without_effect,
)
from curation.engine.stage import FunctionPath, Read, Stage
from curation.media.encoders.params import PinnedAddress, Sha256, check_origin
from curation.media.pictures.plug_ins import PLUG_INS
from curation.media.web.failure_reasons import check_failure
from curation.media.web.params import MANIFEST_SIGNALS, OutboundParams, UrlParams
from curation.stages.fetch.detectors import DETECTORS

Share = Annotated[float, Field(ge=0, le=1)]


class Resize(StrictModel):
    """How stored images are made smaller, as by the resizer of img2dataset; none is made larger."""

    mode: Literal["no", "keep_ratio", "keep_ratio_largest", "center_crop"] = "keep_ratio_largest"
    """`no` keeps the size, `keep_ratio` resizes the shorter side to `size`, `keep_ratio_largest` the
    longer side, and `center_crop` also crops to a square."""
    size: int = Field(default=512, ge=16, le=8192)
    """Side of the stored image in pixels."""

    @model_validator(mode="after")
    def _size_has_an_effect(self) -> Resize:
        if self.mode == "no":
            fix = "Set another mode, or leave it out"
            refuse_without_effect(self, ["size"], "with mode: no", fix)
        return self


class FaceParams(StrictModel):
    """Which faces are blurred (Yang et al. 2022, section 3)."""

    listed: bool = True
    """Whether the face boxes that a source lists in its column `faces` are blurred."""
    detector: str | None = None
    """Face detector whose faces are blurred too: `haar` (upright frontal faces, part of OpenCV) or
    `yunet` (a small network, more accurate); null uses none."""
    weights: str | None = input_file(None)
    """Path of the network of a detector that needs one (`yunet`)."""
    sha256: Sha256 | None = execution_only(None)
    """SHA-256 that the file under `weights` must have. Without it the file may be any, but every task
    of a run loads the same."""
    weights_from: PinnedAddress | None = execution_only(None)
    """Address that `curation weights` downloads the file `weights` from, if it is not there; needs
    `sha256`."""
    at_least: float = Field(default=0.6, ge=0, le=1)
    """Smallest confidence of a detected face, from 0 to 1; `haar` has none and ignores it."""

    @model_validator(mode="after")
    def _has_weights(self) -> FaceParams:
        needs = self.detector is not None and DETECTORS[self.detector].weights
        if needs != (self.weights is not None):
            trained = ", ".join(name for name, entry in DETECTORS.items() if entry.weights)
            raise ValueError(
                f"`weights` is the file of a detector that needs one ({trained}), and of no other"
            )
        check_origin(self.weights_from, self.weights, self.sha256)
        if self.sha256 and not needs:
            raise ValueError("`sha256` is the checksum of `weights`, and there are none")
        return self

    @model_validator(mode="after")
    def _at_least_has_an_effect(self) -> FaceParams:
        if self.detector is None:
            fix = "Name one, or leave it out"
            refuse_without_effect(self, ["at_least"], "without a detector", fix)
        return self

    @field_validator("detector")
    @classmethod
    def _known(cls, detector: str | None) -> str | None:
        return None if detector is None else DETECTORS.check(detector)


class PerHost(StrictModel):
    """How many requests one host gets, over all tasks of a run."""

    concurrency: int = Field(default=4, ge=1, le=1024)
    """Largest number of requests to one host at the same time."""
    per_second: float | None = Field(default=10.0, gt=0)
    """Largest number of requests to one host per second; null sets no limit."""


class FetchParams(OutboundParams):
    """Limits on what is downloaded, how hosts are treated, and how images are stored."""

    pixels: Literal["fetch", "none"] = "fetch"
    """`none` reads no image: each row of the sources counts as one, and vectors are imported (see
    `embed.encoders.NAME.import`). Stages then leave out what needs pixels."""
    retries: int = Field(default=1, ge=0, le=10)
    """How often rows with a transient failure (timeout, broken connection, 408, 425, 429, 5xx) are
    tried again, each time after all other rows of the fragment."""
    max_bytes: int = Field(default=32 * 2**20, ge=1024, le=2**30)
    """Largest size of an image file in bytes; a larger one fails as `too_large`."""
    max_pixels: int = Field(default=100_000_000, ge=1024, le=500_000_000)
    """Largest width times height of an image in pixels; a larger one fails as `too_many_pixels`. One
    that takes more than 1 GiB or 20 seconds to decode is `decoder_memory` or `decoder_timeout`."""
    formats: list[str] = []
    """Formats that are read with packages of their own: `heic` (the extra `heif`) and `jxl` (the extra
    `jxl`). Without them, such files fail as `format_heic` and `format_jxl`."""
    resize: Resize = Resize()
    """How stored images are made smaller."""
    quality: int = Field(default=95, ge=1, le=100)
    """JPEG quality of stored images, from 1 to 100."""
    faces: FaceParams = FaceParams()
    """Which faces are blurred before an image is stored."""
    keep_metadata: list[
        Literal["camera", "creator", "description", "taken", "training_mining"]
    ] = []
    """What else of a picture's metadata the column `kept_metadata` has: `camera` (maker and model),
    `creator`, `description` (also its title), `taken` (date and time), `training_mining` (what
    manifests of C2PA say of training and data mining; it needs the extra `c2pa`). Stored images have
    none."""
    patience_s: float = Field(default=600.0, ge=0)
    """Largest wait in seconds for a host that demands a delay (Crawl-delay, Retry-After); rows that
    would wait longer fail as `host_too_slow`."""
    per_host: PerHost = execution_only(PerHost())
    """How many requests one host gets."""
    concurrency: int = execution_only(256, ge=1, le=1024)
    """Largest number of requests of one task at the same time. A quarter of them is kept for hosts that
    answer promptly, and a half for hosts that are not known to be slow."""
    fail_over: dict[str, Share] = execution_only({})
    """Largest share of the rows that may fail, from 0 to 1, by a reason (such as `host_unreachable`),
    `transient` (all reasons for which a later attempt may succeed) or `all`. If more fail, the stage
    fails, and the next run asks for these rows again."""
    retry_after_h: float | None = execution_only(None, ge=0)
    """Hours after which a run asks again for rows with a transient failure; null leaves them as they
    are until `--retry` asks for them."""

    @field_validator("keep_metadata")
    @classmethod
    def _in_one_order(cls, names: list[str]) -> list[str]:
        return sorted(set(names))

    @field_validator("fail_over")
    @classmethod
    def _known_failures(cls, bounds: dict[str, float]) -> dict[str, float]:
        for name in bounds:
            check_failure(name)
        return bounds

    @field_validator("formats")
    @classmethod
    def _have_plug_ins(cls, formats: list[str]) -> list[str]:
        unknown = sorted(set(formats) - set(PLUG_INS))
        if unknown:
            raise ValueError(
                f"{', '.join(unknown)}: known here are {', '.join(PLUG_INS)}; formats that Pillow "
                "reads need not be listed"
            )
        return sorted(set(formats))

    @property
    def manifest_fields(self) -> list[str]:
        """The fields that ask for manifests of C2PA."""
        kept = "training_mining" in self.keep_metadata
        signals = not MANIFEST_SIGNALS.isdisjoint(self.opt_out_signals)
        return kept * ["keep_metadata"] + signals * ["opt_out_signals"]


class FetchStep(FetchParams):
    """What the stage fetch gets."""

    redirects: UrlParams = UrlParams()
    """The URL rules of `ingest`, which redirects must follow too."""
    anonymous: bool = False
    """Whether there is no `contact`, so that redirects lead only to `allow_hosts`."""
    signed: dict[str, str] = execution_only({})
    """Addresses of sources with their secrets, by the form in which tables hold them."""


STAGE = Stage(
    number=10,
    name="fetch",
    kind="map",
    params=FetchStep,
    writes="images",
    reads=(Read("pairs"),),
    version=14,
    decodes=True,
    work_folder=True,
    waits=True,
    versions=lambda params: DETECTORS.versions(
        [params.faces.detector] if params.faces.detector else []
    ),
    units=FunctionPath("curation.stages.fetch.units:units"),
    chains=FunctionPath("curation.stages.fetch.units:chains"),
    progress=FunctionPath("curation.stages.fetch.units:progress"),
    retry=FunctionPath("curation.stages.fetch.failures:outcomes_to_retry"),
    check=FunctionPath("curation.stages.fetch.failures:too_many_failures"),
)
