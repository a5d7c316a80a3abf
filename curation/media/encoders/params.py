"""The parameters of an encoder in a recipe."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from curation.engine.params_base import Name, StrictModel, execution_only, input_file, key_of
from curation.engine.table_name import Family
from curation.media.encoders import ENCODERS, SPECIAL, EncoderEntry, with_text
from curation.media.vectors.params import VectorIds

EMBEDDINGS = Family("embeddings")
"""The tables of vectors, one per encoder."""

IMPORTED = "imported"
"""The family of vectors that a recipe imports."""

HUBS = ("huggingface.co", "www.huggingface.co", "hf.co")


def _lower_sha256(sha256: str) -> str:
    if not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise ValueError("a SHA-256 has 64 hexadecimal digits, as `sha256sum FILE` prints them")
    return sha256.lower()


Sha256 = Annotated[str, AfterValidator(_lower_sha256)]
"""A SHA-256 as hexadecimal digits, in lower case."""


def _pinned_address(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("https", "http", "file"):
        raise ValueError("an address of weights begins with https://, http:// or file://")
    hub = re.search(r"/resolve/([^/]+)/", parts.path)
    if parts.hostname in HUBS and not (hub and re.fullmatch("[0-9a-f]{40}", hub[1])):
        raise ValueError(
            "an address on the hub names a commit, which does not change: "
            "https://huggingface.co/ORGANISATION/MODEL/resolve/<40 digits of the commit>/FILE"
        )
    return address


PinnedAddress = Annotated[str, AfterValidator(_pinned_address)]
"""Where a file of weights is downloaded from; on a hub, at one commit."""


def check_origin(address: str | None, weights: str | None, sha256: str | None) -> None:
    """Check that an address of weights comes with their path and their checksum.

    Raises:
        ValueError: it does not.
    """
    if address is not None and not (weights and sha256):
        raise ValueError(
            "`weights_from` is where the file under `weights` is downloaded from; set `weights` to the "
            "path that it gets, and `sha256`, so that no other file takes its place"
        )


class Checkpoint(StrictModel):
    """How the checkpoint of a training run becomes the weights of an architecture.

    After these changes, the keys of the state dict must match those of the architecture exactly.
    """

    entry: str | None = None
    """Key of the checkpoint that holds the state dict of the model, as `teacher`; null means that the
    file itself is the state dict."""
    drop: tuple[str, ...] = ()
    """Prefixes; keys of the state dict that begin with one of them are left out."""
    rename: dict[str, str] = {}
    """New prefixes by old prefix of the remaining keys; the longest old prefix that matches counts."""


class EncoderSpec(StrictModel):
    """One encoder. A preprocessing field that is null comes from the model's own configuration."""

    model: str = "imported"
    """Family and name of the model, as `timm/vit_small_patch14_dinov2.lvd142m` or
    `open_clip/ViT-B-32/laion2b_s34b_b79k`. Vectors under `import` need none."""
    vectors: str | dict[Name, str] | None = input_file(None, alias="import")
    """Path of vectors that you bring, in place of a model: a `.npy` file (n, dim), a Parquet file with
    a column of lists, or a folder of one of these kinds; or such a path by source."""
    ids: VectorIds | None = None
    """Which row each of the vectors under `import` belongs to."""
    column: str | None = None
    """Column of Parquet files under `import` with the vectors; null takes the only one of lists of
    floats."""
    of: Literal["image", "caption"] = "image"
    """What is embedded: `image`, or `caption` with the text tower of the model, into the space of its
    images."""
    weights: str | None = input_file(None)
    """Path of the weights: a safetensors file, a state dict, or for some families the folder of the
    model; null takes the weights that the model name stands for."""
    sha256: Sha256 | None = execution_only(None)
    """SHA-256 that the file `weights` must have, 64 hexadecimal digits; `torchscript` requires it. That
    of a folder covers all its files; the error of a wrong one states it."""
    weights_from: PinnedAddress | None = execution_only(None)
    """Address that `curation weights` downloads the file `weights` from, if it is not there; needs
    `sha256`."""
    checkpoint: Checkpoint | None = None
    """How the keys of a training checkpoint under `weights` map to those of the architecture."""
    mean: tuple[float, float, float] | None = None
    """Mean that is subtracted from the red, green and blue channels, on a scale of 0 to 1."""
    std: tuple[float, float, float] | None = None
    """Standard deviation that the red, green and blue channels are divided by, on a scale of 0 to 1."""
    input_size: int | None = Field(default=None, ge=16, le=2048)
    """Side of the square input in pixels."""
    crop_pct: float | None = Field(default=None, gt=0, le=1)
    """Side of the crop as a fraction of the resized image; 1 crops nothing from the shorter side."""
    crop_mode: Literal["center", "squash"] | None = None
    """`center` resizes the shorter side and crops the centre; `squash` resizes both sides and does not
    keep the aspect ratio."""
    interpolation: Literal["bicubic", "bilinear", "lanczos", "nearest"] | None = None
    """Interpolation that images are resized with."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Floating-point format of the forward pass; vectors of two precisions are never compared."""
    options: dict[str, Any] = {}
    """Further options that only the model's family has, by name."""

    @property
    def family(self) -> str:
        """The family of the model."""
        return self.model.partition("/")[0]

    @property
    def is_imported(self) -> bool:
        """Whether its vectors are read from files, so that it needs no images."""
        return self.family == IMPORTED

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @model_validator(mode="after")
    def _is_complete(self) -> EncoderSpec:
        _check_import(self)
        check_origin(self.weights_from, self.weights, self.sha256)
        if self.sha256 and not self.weights:
            raise ValueError(
                "`sha256` is the checksum of a weights file; set `weights` to the file, or remove "
                "`sha256`"
            )
        if self.checkpoint and not self.weights:
            raise ValueError(
                "`checkpoint` changes the keys of a file under `weights`; set `weights`, or remove "
                "`checkpoint`"
            )
        if self.family in ENCODERS:
            _check_family(self, ENCODERS[self.family])
        return self


_OF_IMPORT = ("vectors", "ids", "column")


def _check_import(spec: EncoderSpec) -> None:
    """Check that an encoder either has a model, or imports its vectors and says how they are joined.

    Raises:
        ValueError: it does not.
    """
    keys = {name: key_of(type(spec), name) for name in spec.model_fields_set}
    if not spec.is_imported:
        wrong = [keys[name] for name in _OF_IMPORT if getattr(spec, name) is not None]
        if wrong:
            raise ValueError(
                f"{spec.model} computes its vectors, so {', '.join(wrong)} has no effect; remove it, "
                "or remove `model` to import vectors"
            )
        return
    if spec.vectors is None:
        raise ValueError(
            "`model` is missing: name one, as `model: vit_micro`; or set `import` to the path of "
            "vectors that you bring"
        )
    wrong = [key for name, key in keys.items() if name not in (*_OF_IMPORT, "model", "of")]
    if wrong:
        raise ValueError(f"an import takes no {', '.join(sorted(wrong))}; remove it")
    if spec.of != "image":
        raise ValueError(
            f"imported vectors are those of images, so `of: {spec.of}` has no meaning; remove it. "
            "Captions are embedded by an encoder with a `model`"
        )
    if spec.ids is None:
        raise ValueError(
            "`import` needs `ids`, which says which row each vector belongs to: {join: key, file: "
            "keys.npy}, {join: sha256, column: sha256} or {join: rows}"
        )
    _check_ids_by_source(spec.vectors, spec.ids)


def _check_ids_by_source(vectors: str | dict[str, str], ids: VectorIds) -> None:
    by_source = isinstance(vectors, dict)
    if not vectors:
        raise ValueError("`import` names no path")
    if ids.file is not None and (
        isinstance(ids.file, dict) != by_source
        or (isinstance(ids.file, dict) and ids.file.keys() != set(vectors))
    ):
        raise ValueError(
            "`import` and `ids.file` must both be one path, or both a path for each of the same sources"
        )


def _check_family(spec: EncoderSpec, entry: EncoderEntry) -> None:
    """Check that an encoder has the fields that its family requires, and no fields it does not take.

    Raises:
        ValueError: it does not.
    """
    for name in SPECIAL:
        default = type(spec).model_fields[name].default
        if getattr(spec, name) != default and name not in entry.takes:
            takes = [family for family, other in ENCODERS.items() if name in other.takes]
            raise ValueError(
                f"{spec.family} takes no `{name}`; remove it. Families that take it: "
                f"{', '.join(takes)}"
            )
    if spec.of == "caption" and not entry.text:
        raise ValueError(f"of: caption needs a text tower; only {', '.join(with_text())} has one")
    if entry.name == "optional" and spec.model == spec.family and spec.weights is None:
        raise ValueError(
            f"{spec.family} without an architecture needs `weights`: a folder downloaded from the "
            "hub, with its configuration"
        )
    for name, why in entry.needs:
        if getattr(spec, name) is None:
            raise ValueError(f"{spec.family} needs `{key_of(type(spec), name)}`, {why}")
    unknown = sorted(set(spec.options) - set(entry.options))
    if unknown:
        raise ValueError(
            f"{spec.family} has no option {', '.join(unknown)}. Valid: "
            f"{', '.join(entry.options) or 'none'}"
        )
