"""All models of timm by name: `timm/<name>`, with weights of the hub, a file, or a model's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_data_config

from curation.errors import RecipeError
from curation.media.encoders import close_names
from curation.media.encoders.encoder import (
    Encoder,
    Normalised,
    blank_image,
    encoder_identity,
    image_transform,
    override_config,
    with_precision,
)
from curation.media.encoders.folder_config import check_numbers, check_preprocessing, check_size
from curation.media.encoders.hub import hub_or_cache
from curation.media.encoders.params import EncoderSpec
from curation.media.encoders.private_copy import PrivateCopy
from curation.media.encoders.state import tensors_of
from curation.store.digest import digest

WEIGHTS, CONFIG = "model.safetensors", "config.json"
PREPROCESSING_KEYS = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")
"""Keys of a folder's configuration that define the preprocessing."""


def load(name: str, spec: EncoderSpec) -> Encoder:
    """Load `name` without its classifier.

    Raises:
        RecipeError: timm has no such model, the hub cannot be reached, or the local weights have
            another SHA-256 or do not fit the architecture (keys must match exactly).
    """
    size = {} if spec.input_size is None else {"img_size": spec.input_size}
    model, weights = (
        _load_from_files(name, spec, size) if spec.weights else _load_from_hub(name, size)
    )
    model.reset_classifier(0)
    config = override_config(resolve_data_config(model=model), spec)  # type: ignore[no-untyped-call]
    dim = _dim(model)
    return Encoder(
        model=Normalised(model, config, spec.precision),
        preprocess=image_transform(config),
        blank=blank_image(config),
        dim=dim,
        identity=with_precision(encoder_identity(f"timm/{name}", weights, dim, config), spec),
    )


def skeleton(name: str, spec: EncoderSpec) -> tuple[Any, torch.Tensor, int]:
    """Return the model without weights, one blank input, and the dimension of its vectors."""
    size = {} if spec.input_size is None else {"img_size": spec.input_size}
    with torch.device("meta"):
        model = _create_model(name, pretrained=False, num_classes=0, **size)
    config = override_config(resolve_data_config(model=model), spec)  # type: ignore[no-untyped-call]
    return model, blank_image(config), _dim(model)


def _dim(model: Any) -> int:
    """Return the dimension of vectors: some models have a layer between pooling and classifier."""
    return int(getattr(model, "head_hidden_size", model.num_features))


def _create_model(name: str, **options: Any) -> Any:
    try:
        model = timm.create_model(name, **options)
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"timm/{name} cannot be created with {options} ({error})",
            fix="Correct `model`, `input_size`, or the config.json of its folder",
        ) from error
    except RuntimeError as error:
        known = timm.list_models() + timm.list_models(pretrained=True)
        raise RecipeError(
            f"timm cannot create {name!r}: {error}", fix=close_names(name, known)
        ) from error
    return model


def _load_from_files(name: str, spec: EncoderSpec, size: dict[str, int]) -> tuple[Any, str]:
    path, options = str(spec.weights), dict[str, Any]()
    with PrivateCopy(path, (WEIGHTS, CONFIG)) as copy:
        copy.check(spec.sha256)
        file = copy.path
        if file.is_dir():
            file, options = _read_folder(name, copy)
        sha256, size_of_file = copy.sha256_of(file.name), file.stat().st_size
        state = tensors_of(file, path, spec.checkpoint)
    # The classifier is not used, but keys must match exactly, so it needs the size of the file's.
    classes = _classes(name, state)
    options = {"pretrained": False, "num_classes": classes} | options | size
    check_size(lambda: _create_model(name, **options), size_of_file, path)
    model = _create_model(name, **options)
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise RecipeError(
            f"The weights {path!r} do not fit timm/{name}: {error}",
            fix=(
                "If they are of that architecture but have other keys, set `checkpoint: {entry, drop, "
                "rename}`"
            ),
        ) from error
    return model, sha256


def _classes(name: str, state: Mapping[str, torch.Tensor]) -> int:
    """Return the number of classes of the classifier in a file; 0 without one."""
    architecture = name.partition(".")[0]
    config = timm.get_pretrained_cfg(architecture) if timm.is_model(architecture) else None
    classifier: Any = config.classifier if config else None
    # A distilled model has two classifiers.
    layers = [classifier] if isinstance(classifier, str) else list(classifier or ())
    weights = [state.get(f"{layer}.weight") for layer in [*layers, "head", "head.fc"]]
    return next((len(weight) for weight in weights if weight is not None), 0)


def _read_folder(name: str, copy: PrivateCopy) -> tuple[Path, dict[str, Any]]:
    """Return the weights file in the folder of a model, and the options of its config.json."""
    folder = copy.shown
    path, file, config = copy.path / WEIGHTS, copy.path / CONFIG, Path(folder, CONFIG)
    if not path.is_file():
        raise RecipeError(
            f"The folder {folder!r} has no {WEIGHTS}",
            fix=(
                "Set `weights` to that file, or to the downloaded folder of this model "
                f"({WEIGHTS} and {CONFIG}), not to a folder of several models"
            ),
        )
    if not file.is_file():
        return path, {}
    try:
        content = dict(json.loads(file.read_text(encoding="utf-8")))
        pretrained = dict(content.get("pretrained_cfg") or {})
        options = dict(content.get("model_args") or {})
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RecipeError(
            f"{str(config)!r} is not a configuration of timm ({type(error).__name__}: {error})",
            fix=f"Put the file of the hub there, or set `weights` to {WEIGHTS} itself",
        ) from error
    check_numbers(options, str(config))
    # Arguments of create_model itself could load other weights.
    forbidden = sorted(set(options) & set(signature(timm.create_model).parameters))
    if forbidden:
        raise RecipeError(
            f"{str(config)!r} sets {', '.join(forbidden)} under model_args, which is not "
            "accepted from a folder",
            fix="Remove it, or download the file again from where the model was published",
        )
    architecture = content.get("architecture")
    if architecture not in (None, name.partition(".")[0]):
        raise RecipeError(
            f"{str(config)!r} is for weights of {architecture!r}, not of timm/{name}",
            fix="Correct `model` or `weights`",
        )
    overlay = {key: pretrained[key] for key in PREPROCESSING_KEYS if key in pretrained}
    check_preprocessing(overlay, str(config))
    options.pop("num_classes", None)
    return path, options | {"pretrained_cfg_overlay": overlay}


def _load_from_hub(name: str, size: dict[str, int]) -> tuple[Any, str]:
    try:
        with hub_or_cache():
            model = _create_model(name, pretrained=True, **size)
    except RecipeError:
        raise
    except Exception as error:
        raise RecipeError(
            f"The weights of timm/{name} cannot be downloaded from the hub "
            f"({type(error).__name__}: {error})",
            fix=(
                "Download its model.safetensors on another machine, and set "
                "embed.encoders.<name>.weights to the file"
            ),
        ) from error
    state = model.state_dict()
    sums = {k: float(v.double().sum()) for k, v in state.items()}
    return model, digest(sums, 64)
