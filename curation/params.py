"""The blocks of a recipe, one model a stage. Every field has a default but those that name data."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from curation.embed.encoders import WITH_TEXT
from curation.ingest.presets import PRESETS
from curation.score.heads import HEADS
from curation.screen.filters import FILTERS, default_filters
from curation.strict import Name, Strict, execution_only, input_file

Role = Literal["pool", "seed", "held_out"]
READERS = ("parquet", "csv", "tsv", "jsonl", "txt", "wat", "folder", "webdataset")
"""Formats of files; those of `ingest/presets.py` are lists of the field written in one of them."""
FIXED = {"folder": ("caption", "key"), "webdataset": ("caption", "key"), "txt": (), "wat": ()}
"""Formats that say themselves where images are, and what may be mapped all the same."""
Mapped = Literal["url", "image", "path", "caption", "key", "sha256", "faces"]


class Source(Strict):
    """One list of pairs. `count` is what a plan reckons with; what is found is reported beside it."""

    name: Name
    role: Role
    format: str
    path: str
    columns: dict[Mapped, str] = {}
    count: int | None = execution_only(None, ge=1)

    @property
    def reader(self) -> str:
        """The format of the files."""
        return PRESETS[self.format].reader if self.format in PRESETS else self.format

    @property
    def mapped(self) -> dict[str, tuple[str, ...]]:
        """For what is mapped, the columns that may hold it; `columns` come before a preset's."""
        preset = PRESETS[self.format].columns if self.format in PRESETS else {}
        return dict(preset) | {name: (column,) for name, column in self.columns.items()}

    @property
    def asks_hosts(self) -> bool:
        """Whether its images are behind URLs alone."""
        if self.reader in FIXED:
            return self.reader in ("txt", "wat")
        return "url" in self.mapped and not {"image", "path"} & set(self.mapped)

    @field_validator("format")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in READERS and name not in PRESETS:
            raise ValueError(
                f"unknown format {name!r}. Valid: {', '.join(READERS)}, or one of the lists "
                f"{', '.join(PRESETS)}"
            )
        return name

    @model_validator(mode="after")
    def _says_where_images_are(self) -> Source:
        if self.format in FIXED:
            if set(self.columns) - set(FIXED[self.format]):
                may = " and ".join(FIXED[self.format])
                raise ValueError(
                    f"a {self.format} source says itself where its images are; `columns` may map "
                    + (f"only {may}" if may else "nothing")
                )
        elif not {"url", "image", "path"} & set(self.mapped):
            raise ValueError(
                "`columns` must map at least one of url, image, path to a column of the file, "
                "as in columns: {url: URL, caption: TEXT}"
            )
        return self


class UrlParams(Strict):
    """Which URLs are asked. Blocked domains include their subdomains; patterns are searched in URLs."""

    blocked_domains: str | None = input_file(None)
    blocked_patterns: list[str] = []
    max_url_length: int = Field(default=8192, ge=64)

    @field_validator("blocked_patterns")
    @classmethod
    def _compile(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        return patterns


class IngestParams(UrlParams):
    """What is asked for."""

    rows_per_fragment: int = execution_only(10_000, ge=1, le=1_000_000)


class Resize(Strict):
    """How stored images are made smaller, as img2dataset's resizer does it."""

    mode: Literal["no", "keep_ratio", "keep_ratio_largest", "center_crop"] = "keep_ratio_largest"
    size: int = Field(default=512, ge=16, le=8192)


class FaceParams(Strict):
    """Which faces are blurred: those of the source's column `faces`, and those of a detector.

    `haar` comes with OpenCV and finds upright faces seen from the front; `yunet` is better and needs
    its network, a file (`weights`); it keeps what it is `at_least` so sure of.
    """

    listed: bool = True
    detector: Literal["haar", "yunet"] | None = None
    weights: str | None = input_file(None)
    at_least: float = Field(default=0.6, ge=0, le=1)

    @model_validator(mode="after")
    def _has_weights(self) -> FaceParams:
        if (self.detector == "yunet") != (self.weights is not None):
            raise ValueError("`weights` go with detector: yunet, and it does not work without")
        return self


class PerHost(Strict):
    """How much one host is asked: requests at once, and requests a second (null: no bound)."""

    concurrency: int = Field(default=4, ge=1, le=1024)
    per_second: float | None = Field(default=10.0, gt=0)


class FetchParams(Strict):
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


class WordList(Strict):
    """A file with a word or phrase a line."""

    file: str = input_file()


class ScreenParams(Strict):
    """Which scores are computed; thresholds stand under `select`.

    `words` are lists by name: `words: {profanity: {file: words.txt}}` gives a score `words_profanity`.
    """

    filters: list[str] = Field(default_factory=default_filters)
    words: dict[Name, WordList] = {}
    perceptual_hash: bool = True

    @field_validator("filters")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in FILTERS:
                raise ValueError(f"unknown filter {name!r}. Valid: {', '.join(FILTERS)}")
        if len(set(names)) != len(names):
            raise ValueError("a filter is named more than once")
        return names


class Checkpoint(Strict):
    """How a training run's own file becomes the weights of an architecture.

    `entry` names the part of the file that is the model, as `teacher`. `drop` leaves out keys by how
    they begin, `rename` gives the rest other beginnings, the longest that fits. What then does not
    match the architecture to the last key is an error.
    """

    entry: str | None = None
    drop: tuple[str, ...] = ()
    rename: dict[str, str] = {}


class EncoderSpec(Strict):
    """One encoder. What is not given comes from the model's own config.

    `of: caption` embeds captions with the model's text tower, into the space of its pictures.
    `sha256` is the sum that the file `weights` must have. `crop_mode` is `center`, where the shorter
    side is resized and the middle cut out, or `squash`, where both sides are resized.
    """

    model: str
    of: Literal["image", "caption"] = "image"
    weights: str | None = input_file(None)
    sha256: str | None = execution_only(None)
    checkpoint: Checkpoint | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    input_size: int | None = Field(default=None, ge=16, le=2048)
    crop_pct: float | None = Field(default=None, gt=0, le=1)
    crop_mode: Literal["center", "squash"] | None = None
    interpolation: Literal["bicubic", "bilinear", "lanczos", "nearest"] | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @field_validator("sha256")
    @classmethod
    def _is_a_sum(cls, sha256: str | None) -> str | None:
        if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
            raise ValueError("a SHA-256 has 64 hex digits, as `sha256sum FILE` prints them")
        return sha256 and sha256.lower()

    @model_validator(mode="after")
    def _says_enough(self) -> EncoderSpec:
        if self.sha256 and not self.weights:
            raise ValueError(
                "`sha256` is the sum of a weights file; name the file under `weights`, or leave the "
                "sum out"
            )
        family, _, name = self.model.partition("/")
        if self.precision != "fp32" and family in ("torchscript", "onnx"):
            raise ValueError(f"{family} computes as its file says; leave out `precision`")
        if self.checkpoint and (family != "timm" or not self.weights):
            raise ValueError("`checkpoint` says how a file under `weights` fits a timm model")
        if self.of == "caption" and family not in WITH_TEXT:
            raise ValueError(f"of: caption needs a text tower; only {', '.join(WITH_TEXT)} has one")
        if family == "open_clip" and not name and self.weights is None:
            raise ValueError(
                "open_clip without an architecture needs `weights`: a folder as the hub has it, with "
                "open_clip_config.json"
            )
        if self.model == "torchscript" and self.weights is None:
            raise ValueError("torchscript needs `weights`, the path of the archive")
        if self.model == "onnx" and self.weights is None:
            raise ValueError("onnx needs `weights`, the path of the file")
        if self.model == "torchscript" and self.input_size is None:
            raise ValueError(
                "torchscript needs `input_size`, the side in pixels that the archive was made for: "
                "it does not tell"
            )
        return self


class EmbedParams(Strict):
    """Encoders by name; each writes a table of its own."""

    encoders: dict[Name, EncoderSpec] = Field(
        default={
            "semantic": EncoderSpec(model="vit_micro"),
            "copy": EncoderSpec(model="copy_micro"),
        },
        min_length=1,
    )
    batch_size: int = Field(default=64, ge=1, le=4096)

    def only(self, names: Iterable[str]) -> EmbedParams:
        """Return the same with a part of the encoders."""
        return self.model_copy(update={"encoders": {n: self.encoders[n] for n in names}})


class HeadSpec(Strict):
    """A head on the vectors of one encoder; `HEADS` says which kind needs what.

    `weights` is a file, `captions` the encoder of captions, `prompts` and `against` are texts.
    """

    kind: str = "linear"
    encoder: str
    weights: str | None = input_file(None)
    activation: Literal["none", "relu"] = "none"
    output: Literal["none", "sigmoid"] = "none"
    captions: str | None = None
    prompts: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    scale: float = Field(default=100.0, gt=0)

    def reads(self) -> tuple[str, ...]:
        """Return the encoders whose vectors the head reads."""
        return (self.encoder,) if self.captions is None else (self.encoder, self.captions)

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> HeadSpec:
        kind = HEADS[self.kind]
        missing = [name for name in kind.needs if not getattr(self, name)]
        given = self.model_fields_set - {"kind", "encoder", *kind.needs, *kind.takes}
        if missing or given:
            fields = ", ".join([*kind.needs, *(f"{name} (optional)" for name in kind.takes)])
            raise ValueError(
                f"a head of kind {self.kind} has encoder, {fields}; "
                + (
                    f"missing: {', '.join(missing)}"
                    if missing
                    else f"not {', '.join(sorted(given))}"
                )
            )
        if not all(text.strip() for text in (*self.prompts, *self.against)):
            raise ValueError("a prompt is blank")
        return self

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in HEADS:
            raise ValueError(f"unknown head {kind!r}. Valid: {', '.join(HEADS)}")
        return kind


class ScoreParams(Strict):
    """Heads by name; each is a column of `head_scores`."""

    heads: dict[Name, HeadSpec] = {}


class Threshold(Strict):
    """Inclusive bounds on a score, or the values that a score of text may have.

    A row without the score passes only if `missing` says so.
    """

    at_least: float | None = None
    at_most: float | None = None
    one_of: list[str] | None = Field(default=None, min_length=1)
    missing: Literal["drop", "keep"] = "drop"

    @model_validator(mode="after")
    def _bounds(self) -> Threshold:
        if self.at_least is None and self.at_most is None and self.one_of is None:
            raise ValueError("give at_least, at_most or both, or one_of for a score of text")
        if self.one_of is not None and (self.at_least, self.at_most) != (None, None):
            raise ValueError("one_of is for scores of text, at_least and at_most for numbers")
        if None not in (self.at_least, self.at_most) and self.at_least > self.at_most:  # type: ignore[operator]
            raise ValueError(f"at_least {self.at_least} is above at_most {self.at_most}")
        return self


class ResamplingParams(Strict):
    """How the levels above the first are evened out (Vo et al. 2024): see `kmeans/hierarchy.py`.

    `nearest` is a number a level above the first; by default the half of a cluster's mean size, which
    is what the paper takes.
    """

    rounds: int = Field(default=10, ge=1, le=100)
    nearest: list[Annotated[int, Field(ge=1)]] | None = None


class ClusterParams(Strict):
    """k-means of the eligible pool (LVD-142M: one level of 100,000 clusters, spherical).

    `levels` are numbers of clusters, the finest first. Where the training vectors take more than
    `memory_gib`, they stay in their files. Back ends give the same bits; that of torch is the faster
    one (benchmarks/results/cluster_knn.md).
    """

    encoder: str | None = None
    levels: list[Annotated[int, Field(ge=1)]] = Field(default=[64], min_length=1, max_length=8)
    metric: Literal["spherical", "euclidean"] = "spherical"
    start: Literal["random", "kmeans++"] = "random"
    iterations: int = Field(default=20, ge=1, le=1000)
    max_points_per_centroid: int = Field(default=256, ge=1)
    resampling: ResamplingParams = ResamplingParams()
    backend: Literal["faiss", "torch"] = execution_only("torch")
    memory_gib: float = execution_only(4.0, ge=0)

    @model_validator(mode="after")
    def _levels_fall(self) -> ClusterParams:
        if any(fine <= coarse for fine, coarse in pairwise(self.levels)):
            raise ValueError(
                f"levels {self.levels}: the finest stands first, and each level has fewer clusters "
                "than the one before, as in levels: [10000, 1000, 100]"
            )
        given = self.resampling.nearest
        if given is not None and len(given) != len(self.levels) - 1:
            raise ValueError(
                f"resampling.nearest has {len(given)} numbers; it takes one for each level above "
                f"the first, here {len(self.levels) - 1}"
            )
        return self


class MatchParams(Strict):
    """How the pool is searched.

    `auto` is exact while that takes up to 2^50 multiplications, and `ivf_flat` beyond (see
    `knn/choice.py`). `ivf_pq` scores `refine`·k candidates again with the stored vectors. Without
    `nlist` it is four times the square root of the power of four at or below the pool's size.
    """

    encoder: str | None = None
    index: Literal["auto", "exact", "ivf_flat", "ivf_pq"] = "auto"
    nlist: int | None = Field(default=None, ge=1)
    nprobe: int = Field(default=32, ge=1)
    subquantizers: int = Field(default=24, ge=1)
    refine: int = Field(default=8, ge=1)
    recall_queries: int = Field(default=256, ge=1)


class BalanceParams(Strict):
    """Caps over all arms, and a target for the whole dataset; see `retrieve/balance.py`.

    `per_seed_set` caps the images that a seed set brings; `per_cluster` (of `level`, 0 the finest) and
    `per_host` cap images of the dataset, whoever claims them. `priority` names arms whose images stay
    first; among others an image stays with a chance that grows with the weight of its source (1 where
    none is given).
    """

    per_seed_set: dict[Name, Annotated[int, Field(ge=0)]] = {}
    per_cluster: int | None = Field(default=None, ge=0)
    level: int = Field(default=0, ge=0, le=7)
    per_host: int | None = Field(default=None, ge=0)
    weights: dict[Name, Annotated[float, Field(gt=0)]] = {}
    target: int | None = Field(default=None, ge=0)
    priority: list[Name] = []


class AssembleParams(Strict):
    """What the dataset holds. Without `pixels` the stored images stay in the table `images`."""

    pixels: bool = False
    rows_per_file: int = execution_only(100_000, ge=1)
