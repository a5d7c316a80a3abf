"""CLIP models of open_clip, for images or captions: `open_clip/<architecture>[/<tag>]`.

Weights come from the hub by tag, from a file, or from the downloaded folder of a model of the hub
(`model: open_clip`, `weights: FOLDER`), which contains open_clip_config.json, the weights, and the
tokenizer if the model has its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.transform import PreprocessCfg, image_transform_v2
from torchvision.transforms import Compose, Normalize, PILToTensor, ToTensor

from curation.errors import RecipeError
from curation.media.encoders.encoder import (
    PRECISIONS,
    Encoder,
    Normalised,
    blank_image,
    resize_and_crop,
    to_pillow,
    with_precision,
)
from curation.media.encoders.folder_config import check_size
from curation.media.encoders.hub import hub_or_cache
from curation.media.encoders.open_clip_source import ModelSource, copied, find_model
from curation.media.encoders.params import EncoderSpec
from curation.media.encoders.state import check_expansion, read_content
from curation.media.encoders.texts import (
    MAX_CHARACTERS,
    check_transformers_files,
    load_tokenizer,
)
from curation.store.digest import digest

RESIZED_SIDES = {"shortest": 1, "squash": 2}
"""Number of sides that open_clip's resize modes resize to a given length."""
RESIZE_MODES = {"center": "shortest", "squash": "squash"}
"""The resize mode of open_clip for each `crop_mode` of a recipe."""


class Tower(torch.nn.Module):
    """One tower of a CLIP model: from images, or tokens of captions, to their common space.

    Args:
        model: the model of open_clip.
        of: `image` or `caption`.
    """

    def __init__(self, model: torch.nn.Module, of: str) -> None:
        super().__init__()
        # The other tower would only take memory.
        self.part, self.method = model, f"encode_{'text' if of == 'caption' else 'image'}"
        if of == "caption":
            del model.visual
        elif type(model) in (CLIP, CustomTextCLIP):
            self.part, self.method = model.visual, "forward"  # type: ignore[assignment]

    def forward(self, inputs: torch.Tensor) -> Any:
        """Return the features (n, dim) of images (n, 3, side, side) or tokens (n, length)."""
        return getattr(self.part, self.method)(inputs)


def load(name: str, spec: EncoderSpec) -> Encoder:
    """Load one tower of a model.

    Raises:
        RecipeError: the model or tag does not exist, the hub cannot be reached, or the weights do not
            fit the model (keys must match exactly).
    """
    with copied(find_model(name, spec), spec) as (source, sha256):
        return _load(source, sha256, spec)


def _load(source: ModelSource, sha256: str | None, spec: EncoderSpec) -> Encoder:
    check_transformers_files(source.config["text_cfg"], source.folder, spec.of, source.shown)
    model = _load_model(source, spec).eval()
    weights = sha256 or _weights_digest(model)
    architecture = f"open_clip/{source.architecture}"
    if spec.of == "caption":
        preprocess: Callable[[Any], torch.Tensor]
        preprocess, blank, tokenizer = load_tokenizer(source.name, source.architecture, model)
        tower: torch.nn.Module = Tower(model, "caption").to(PRECISIONS[spec.precision])
        details = {"tower": "caption", "preprocessing": tokenizer}
        probe = preprocess("a " * MAX_CHARACTERS)
    else:
        config = PreprocessCfg(**model.visual.preprocess_cfg)
        preprocess = _image_transform(config)
        normalisation = {"mean": config.mean, "std": config.std}
        tower = Normalised(Tower(model, "image"), normalisation, spec.precision)
        probe = blank = blank_image({"input_size": config.input_size})
        details = {"preprocessing": _preprocessing(config)}
    dim = _measure_dim(tower, probe, source)
    identity = {"architecture": architecture, "weights_sha256": weights, "dim": dim} | details
    return Encoder(tower, preprocess, blank, dim, with_precision(identity, spec))


def _measure_dim(tower: torch.nn.Module, probe: torch.Tensor, source: ModelSource) -> int:
    """Return the dimension of vectors, by a forward pass on one input of the largest length."""
    try:
        with torch.inference_mode():
            return int(tower(probe[None]).shape[1])
    except (IndexError, RuntimeError) as error:
        raise RecipeError(
            f"open_clip/{source.architecture} does not take an input of shape "
            f"{tuple(probe.shape)} ({type(error).__name__}: {error})",
            fix="Check that its configuration and its tokenizer are of the same model",
        ) from error


def skeleton(name: str, spec: EncoderSpec) -> tuple[Tower, torch.Tensor, int]:
    """Return the tower without weights, one blank input, and the dimension of its vectors."""
    source = find_model(name, spec)
    check_transformers_files(source.config["text_cfg"], source.folder, spec.of, source.shown)
    with torch.device("meta"):
        model = _create_model(source, spec, load_weights=False)
    dim = int(source.config["embed_dim"])
    if spec.of == "caption":
        length = int(source.config["text_cfg"].get("context_length", 77))
        return Tower(model, "caption"), torch.zeros(length, dtype=torch.int64), dim
    config = PreprocessCfg(**model.visual.preprocess_cfg)
    return Tower(model, "image"), blank_image({"input_size": config.input_size}), dim


def _load_model(source: ModelSource, spec: EncoderSpec) -> Any:
    if source.file is not None:
        _check_weights(Path(source.file), source.shown_file)
    try:
        if source.file is not None and source.folder is not None:
            size = Path(source.file).stat().st_size
            check_size(
                lambda: _create_model(source, spec, load_weights=False), size, str(source.shown)
            )
        with hub_or_cache() if source.tag else nullcontext():
            return _create_model(source, spec, load_weights=True)
    except RecipeError:
        raise
    except Exception as error:
        if source.tag:
            raise RecipeError(
                f"open_clip/{source.name}/{source.tag} cannot be downloaded from the hub "
                f"({type(error).__name__}: {error})",
                fix=(
                    "Download its open_clip_model.safetensors on another machine, and set "
                    f"`weights` of model: open_clip/{source.name} to the file"
                ),
            ) from error
        raise RecipeError(
            f"The weights {source.shown_file!r} do not fit open_clip/{source.architecture}, or a "
            f"part of the model is missing ({type(error).__name__}: {error})",
            fix=(
                "Text towers of transformers are loaded from a folder with their own config.json "
                "(model: open_clip, weights: FOLDER)"
            ),
        ) from error


def _check_weights(file: Path, shown: str) -> None:
    """Check that weights are plain tensors before open_clip reads them.

    If torch fails in a certain way, open_clip loads the file again by torch's defaults.
    """
    if file.suffix in (".npz", ".npy"):
        check_expansion(file, shown)
    elif file.suffix != ".safetensors":
        read_content(file, shown)


def _create_model(source: ModelSource, spec: EncoderSpec, load_weights: bool) -> Any:
    overrides: dict[str, Any] = {}
    if source.folder is not None and "hf_model_name" in source.config["text_cfg"]:
        # Otherwise open_clip would load the text tower from the hub.
        overrides["text_cfg"] = source.config["text_cfg"] | {
            "hf_model_name": source.folder,
            "hf_model_pretrained": False,
        }
    disabled = logging.root.manager.disable
    # open_clip logs each step to the root logger.
    logging.disable(logging.WARNING)
    try:
        return open_clip.create_model(
            source.name,
            pretrained=(source.tag or source.file) if load_weights else None,
            load_weights=load_weights,
            device="cpu" if load_weights else "meta",
            jit=False,
            require_pretrained=load_weights,
            pretrained_image=False,
            pretrained_text=False,
            force_image_size=spec.input_size,
            force_preprocess_cfg=_preprocessing_overrides(spec),
            weights_only=True,
            **overrides,
        )
    finally:
        logging.disable(disabled)


def _preprocessing_overrides(spec: EncoderSpec) -> dict[str, Any]:
    if spec.crop_pct not in (None, 1.0):
        raise RecipeError(
            "open_clip models crop nothing from the shorter side of an image",
            fix="Remove `crop_pct`",
        )
    overrides = {
        "mean": spec.mean,
        "std": spec.std,
        "interpolation": spec.interpolation,
        "resize_mode": RESIZE_MODES[spec.crop_mode] if spec.crop_mode else None,
    }
    return {name: value for name, value in overrides.items() if value is not None}


def _image_transform(config: PreprocessCfg) -> Callable[[Any], torch.Tensor]:
    """Return the transform of open_clip without its normalisation."""
    side = int(config.input_size[1])
    if config.resize_mode in RESIZED_SIDES and config.input_size[1] == config.input_size[2]:
        size = RESIZED_SIDES[config.resize_mode] * [side]
        return resize_and_crop(size, side, config.interpolation)
    *steps, to_tensor, normalise = image_transform_v2(config, is_train=False).transforms
    assert isinstance(to_tensor, ToTensor) and isinstance(normalise, Normalize)
    transform = Compose([*steps, PILToTensor()])
    return lambda image: transform(to_pillow(image))


def _preprocessing(config: PreprocessCfg) -> dict[str, Any]:
    return {
        "input_size": list(config.input_size),
        "mean": list(config.mean),
        "std": list(config.std),
        "interpolation": config.interpolation,
        "resize_mode": config.resize_mode,
    }


def _weights_digest(model: torch.nn.Module) -> str:
    return digest({k: float(v.double().sum()) for k, v in model.state_dict().items()}, 64)
