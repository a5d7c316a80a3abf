"""CLIP and its kin through open_clip, pictures or captions: `open_clip/<architecture>[/<tag>]`.

Weights come from the hub by tag, from a file, or from a folder as the hub has it (`model: open_clip`,
`weights: FOLDER`), with open_clip_config.json, the weights, and the tokenizer where the model has its
own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.factory import _find_checkpoint_in_dir
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.transform import PreprocessCfg, image_transform_v2
from torchvision.transforms import Compose, Normalize, PILToTensor, ToTensor

from curation.engine.digest import digest
from curation.errors import RecipeError
from curation.media.encoders import close_names
from curation.media.encoders.checksum import checked_sha256
from curation.media.encoders.encoder import (
    PRECISIONS,
    Encoder,
    Normalised,
    at_precision,
    no_picture,
    pillow,
    shaping,
)
from curation.media.encoders.params import EncoderSpec
from curation.media.encoders.texts import LONGEST, check_text, tokens_of, tower_config

CONFIG = "open_clip_config.json"
SIZES = {"shortest": 1, "squash": 2}
"""Sides that a way of resizing gives a length of their own."""
CROPS = {"center": "shortest", "squash": "squash"}
"""`crop_mode` of a recipe, as open_clip calls it."""


class Tower(torch.nn.Module):
    """One tower of a model: pictures, or tokens of captions, to features in the space of both."""

    def __init__(self, model: torch.nn.Module, of: str) -> None:
        super().__init__()
        # The other tower only takes memory.
        self.part, self.call = model, f"encode_{'text' if of == 'caption' else 'image'}"
        if of == "caption":
            del model.visual
        elif type(model) in (CLIP, CustomTextCLIP):
            self.part, self.call = model.visual, "forward"  # type: ignore[assignment]

    def forward(self, inputs: torch.Tensor) -> Any:
        """Pictures (n, 3, side, side) or tokens (n, length) to features (n, dim)."""
        return getattr(self.part, self.call)(inputs)


@dataclass(frozen=True)
class Place:
    """Where a model is: what open_clip calls it, its configuration, and its weights file or tag."""

    name: str
    config: dict[str, Any]
    file: str | None
    tag: str | None = None

    @property
    def folder(self) -> str | None:
        """Return the folder that holds all of the model, if one does."""
        name = self.name.removeprefix("local-dir:")
        return name if name != self.name else None

    @property
    def architecture(self) -> str:
        """Return the name that vectors of the model tell: a folder goes by what is in it."""
        if self.folder is None:
            return self.name
        # Of a tower of transformers' the shape stands in a file of its own.
        own = "hf_model_name" in self.config["text_cfg"]
        return digest([self.config, tower_config(self.folder)] if own else self.config)


def load(name: str, spec: EncoderSpec) -> Encoder:
    """Load one tower of a model.

    Raises:
        RecipeError: no such model or tag, no hub, or weights that do not fit it (strictly).
    """
    place = _place(name, spec)
    sha256 = checked_sha256(place.file, spec.sha256) if place.file else None
    check_text(place.config["text_cfg"], place.folder, spec.of)
    model = _create(place, spec).eval()
    weights = sha256 or _sums(model)
    architecture = f"open_clip/{place.architecture}"
    if spec.of == "caption":
        tokenize, blank, told = tokens_of(place.name, place.architecture, model)
        tower: torch.nn.Module = Tower(model, "caption").to(PRECISIONS[spec.precision])
        told = {"tower": "caption", "preprocessing": told}
        preprocess: Callable[[Any], torch.Tensor] = tokenize
    else:
        config = PreprocessCfg(**model.visual.preprocess_cfg)
        preprocess = _shaping(config)
        facts = {"mean": config.mean, "std": config.std}
        tower = Normalised(Tower(model, "image"), facts, spec.precision)
        blank = no_picture({"input_size": config.input_size})
        told = {"preprocessing": _plain(config)}
    dim = _dim(tower, blank if spec.of == "image" else preprocess("a " * LONGEST), place)
    identity = {"architecture": architecture, "weights_sha256": weights, "dim": dim} | told
    return Encoder(tower, preprocess, blank, dim, at_precision(identity, spec))


def _dim(tower: torch.nn.Module, one: torch.Tensor, place: Place) -> int:
    """Return the length of vectors, by a pass over one input that is as long as any."""
    try:
        with torch.inference_mode():
            return int(tower(one[None]).shape[1])
    except (IndexError, RuntimeError) as error:
        raise RecipeError(
            f"open_clip/{place.architecture} does not take an input of {tuple(one.shape)} "
            f"({type(error).__name__}: {error}). Are its configuration and its tokenizer of one model?"
        ) from error


def skeleton(name: str, spec: EncoderSpec) -> tuple[Tower, torch.Tensor, int]:
    """Return the tower without weights or memory, one blank input, and the length of its vectors."""
    place = _place(name, spec)
    check_text(place.config["text_cfg"], place.folder, spec.of)
    with torch.device("meta"):
        model = _created(place, spec, load_weights=False)
    dim = int(place.config["embed_dim"])
    if spec.of == "caption":
        length = int(place.config["text_cfg"].get("context_length", 77))
        return Tower(model, "caption"), torch.zeros(length, dtype=torch.int64), dim
    config = PreprocessCfg(**model.visual.preprocess_cfg)
    return Tower(model, "image"), no_picture({"input_size": config.input_size}), dim


def _place(name: str, spec: EncoderSpec) -> Place:
    if not name:
        return _folder(str(spec.weights))
    architecture, _, tag = name.partition("/")
    config = open_clip.get_model_config(architecture)
    if config is None:
        raise RecipeError(
            f"open_clip knows no model {architecture!r}. "
            + close_names(architecture, open_clip.list_models())
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag and tag.lower() not in tags:
        raise RecipeError(
            f"open_clip has no weights {tag!r} of {architecture}. Valid: {', '.join(tags)}"
        )
    if tag and spec.weights:
        raise RecipeError(
            f"open_clip/{name} names weights of the hub; leave out `weights` or the tag."
        )
    if not tag and not spec.weights:
        raise RecipeError(
            f"open_clip/{architecture} needs weights: a file under `weights`, or a tag of the hub, as "
            f"in open_clip/{architecture}/{tags[0] if tags else '<tag>'}. Valid tags: {', '.join(tags)}"
        )
    return Place(architecture, config, spec.weights, tag or None)


def _folder(folder: str) -> Place:
    path = Path(folder) / CONFIG
    try:
        config = dict(json.loads(path.read_text(encoding="utf-8"))["model_cfg"])
        dict(config["text_cfg"]), dict(config["vision_cfg"]), int(config["embed_dim"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(
            f"{str(path)!r} is no configuration of open_clip ({type(error).__name__}: {error}). Under "
            "`weights` name a folder as the hub has it, with that file; or name an architecture, as in "
            "model: open_clip/ViT-B-32, and a file."
        ) from error
    weights = _find_checkpoint_in_dir(Path(folder))
    if weights is None:
        raise RecipeError(
            f"The folder {folder!r} holds no weights; put open_clip_model.safetensors there."
        )
    return Place(f"local-dir:{folder}", config, str(weights))


def _create(place: Place, spec: EncoderSpec) -> Any:
    try:
        return _created(place, spec, load_weights=True)
    except RecipeError:
        raise
    except Exception as error:
        if place.tag:
            raise RecipeError(
                f"Cannot get open_clip/{place.name}/{place.tag} from the hub "
                f"({type(error).__name__}: {error}). Download its open_clip_model.safetensors "
                f"elsewhere and name the file under `weights` of model: open_clip/{place.name}."
            ) from error
        raise RecipeError(
            f"The weights {place.file!r} do not fit open_clip/{place.architecture}, or a part of it is "
            f"not here ({type(error).__name__}: {error}). Text towers from transformers load from a "
            "folder that holds their own config.json (model: open_clip, weights: FOLDER)."
        ) from error


def _created(place: Place, spec: EncoderSpec, load_weights: bool) -> Any:
    own: dict[str, Any] = {}
    if place.folder is not None and "hf_model_name" in place.config["text_cfg"]:
        # The folder holds what open_clip would ask the hub for.
        own["text_cfg"] = place.config["text_cfg"] | {
            "hf_model_name": place.folder,
            "hf_model_pretrained": False,
        }
    before = logging.root.manager.disable
    # open_clip tells every step to the root logger.
    logging.disable(logging.WARNING)
    try:
        return open_clip.create_model(
            place.name,
            pretrained=(place.tag or place.file) if load_weights else None,
            load_weights=load_weights,
            device="cpu" if load_weights else "meta",
            require_pretrained=load_weights,
            pretrained_image=False,
            pretrained_text=False,
            force_image_size=spec.input_size,
            force_preprocess_cfg=_overrides(spec),
            weights_only=True,
            **own,
        )
    finally:
        logging.disable(before)


def _overrides(spec: EncoderSpec) -> dict[str, Any]:
    if spec.crop_pct not in (None, 1.0):
        raise RecipeError(
            "open_clip models see the whole middle of a picture; leave out `crop_pct`."
        )
    given = {
        "mean": spec.mean,
        "std": spec.std,
        "interpolation": spec.interpolation,
        "resize_mode": CROPS[spec.crop_mode] if spec.crop_mode else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _shaping(config: PreprocessCfg) -> Callable[[Any], torch.Tensor]:
    """Return open_clip's transform with bytes in the place of normalised numbers."""
    side = int(config.input_size[1])
    if config.resize_mode in SIZES and config.input_size[1] == config.input_size[2]:
        return shaping(SIZES[config.resize_mode] * [side], side, config.interpolation)
    *steps, to_tensor, normalise = image_transform_v2(config, is_train=False).transforms
    assert isinstance(to_tensor, ToTensor) and isinstance(normalise, Normalize)
    whole = Compose([*steps, PILToTensor()])
    return lambda picture: whole(pillow(picture))


def _plain(config: PreprocessCfg) -> dict[str, Any]:
    return {
        "input_size": list(config.input_size),
        "mean": list(config.mean),
        "std": list(config.std),
        "interpolation": config.interpolation,
        "resize_mode": config.resize_mode,
    }


def _sums(model: torch.nn.Module) -> str:
    return digest({k: float(v.double().sum()) for k, v in model.state_dict().items()}, 64)
