"""Any timm model by name: `timm/<name>`, with weights from the hub, a file, or a model's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_data_config

from curation.engine.digest import digest
from curation.errors import RecipeError
from curation.media.encoders import close_names
from curation.media.encoders.encoder import (
    Encoder,
    Normalised,
    at_precision,
    build_transform,
    identity_of,
    no_picture,
    preprocessing,
    read_weights,
)
from curation.media.encoders.params import EncoderSpec

WEIGHTS, CONFIG = "model.safetensors", "config.json"
SEEN = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")
"""What a folder's configuration says of the pictures."""


def load(name: str, spec: EncoderSpec) -> Encoder:
    """Load `name` without its classifier.

    Raises:
        RecipeError: timm does not know the name, the hub cannot be reached, or the local weights have
            another sum than the recipe says or do not fit the architecture (strictly).
    """
    size = {} if spec.input_size is None else {"img_size": spec.input_size}
    model, weights = _local(name, spec, size) if spec.weights else _from_hub(name, size)
    model.reset_classifier(0)
    config = preprocessing(resolve_data_config(model=model), spec)  # type: ignore[no-untyped-call]
    dim = _dim(model)
    return Encoder(
        model=Normalised(model, config, spec.precision),
        preprocess=build_transform(config),
        blank=no_picture(config),
        dim=dim,
        identity=at_precision(identity_of(f"timm/{name}", weights, dim, config), spec),
    )


def skeleton(name: str, spec: EncoderSpec) -> tuple[Any, torch.Tensor, int]:
    """Return the model without weights or memory, one blank input, and the length of its vectors."""
    size = {} if spec.input_size is None else {"img_size": spec.input_size}
    with torch.device("meta"):
        model = _create(name, pretrained=False, num_classes=0, **size)
    config = preprocessing(resolve_data_config(model=model), spec)  # type: ignore[no-untyped-call]
    return model, no_picture(config), _dim(model)


def _dim(model: Any) -> int:
    """Return the length of a model's vectors: some have a layer between pooling and classifier."""
    return int(getattr(model, "head_hidden_size", model.num_features))


def _create(name: str, **options: Any) -> Any:
    try:
        model = timm.create_model(name, **options)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"timm/{name} is not made of {options} ({error}).") from error
    except RuntimeError as error:
        known = timm.list_models() + timm.list_models(pretrained=True)
        raise RecipeError(
            f"timm cannot make {name!r}: {error}. {close_names(name, known)}"
        ) from error
    return model


def _local(name: str, spec: EncoderSpec, size: dict[str, int]) -> tuple[Any, str]:
    path, own = str(spec.weights), dict[str, Any]()
    if Path(path).is_dir():
        path, own = _folder(name, path)
    state, sha256 = read_weights(path, spec.sha256, spec.checkpoint)
    # The head is not used, but a strict load wants one of the file's size.
    classes = _classes(name, state)
    model = _create(name, pretrained=False, num_classes=classes, **(own | size))
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise RecipeError(
            f"The weights {path!r} do not fit timm/{name}: {error}. If they are of that architecture "
            "under other names, `checkpoint: {entry, drop, rename}` says how they are called there."
        ) from error
    return model, sha256


def _classes(name: str, state: Mapping[str, torch.Tensor]) -> int:
    """Return how many classes the classifier in a file tells apart; 0 without one."""
    architecture = name.partition(".")[0]
    known = timm.get_pretrained_cfg(architecture) if timm.is_model(architecture) else None
    own: Any = known.classifier if known else None
    # A distilled model has two.
    places = [own] if isinstance(own, str) else list(own or ())
    heads = [state.get(f"{place}.weight") for place in [*places, "head", "head.fc"]]
    return next((len(head) for head in heads if head is not None), 0)


def _folder(name: str, folder: str) -> tuple[str, dict[str, Any]]:
    """Return the weights file of one model's folder as the hub has it, and what its config.json says of
    how the model is made and what pictures it sees."""
    path, config = Path(folder) / WEIGHTS, Path(folder) / CONFIG
    if not path.is_file():
        raise RecipeError(
            f"The folder {folder!r} holds no {WEIGHTS}. Under `weights` name that file, or the folder "
            f"of this one model as the hub has it ({WEIGHTS} and {CONFIG}), not one that holds several."
        )
    if not config.is_file():
        return str(path), {}
    try:
        told = dict(json.loads(config.read_text(encoding="utf-8")))
        sees, made = dict(told.get("pretrained_cfg") or {}), dict(told.get("model_args") or {})
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RecipeError(
            f"{str(config)!r} is no configuration of timm ({type(error).__name__}: {error}). Put the "
            f"file there as the hub has it, or name {WEIGHTS} alone under `weights`."
        ) from error
    beyond = sorted(set(made) & set(signature(timm.create_model).parameters))
    if beyond:
        raise RecipeError(
            f"{str(config)!r} sets {', '.join(beyond)} under model_args, which is not taken from a "
            "folder. Take it out, or fetch the file again from where the model was published."
        )
    architecture = told.get("architecture")
    if architecture not in (None, name.partition(".")[0]):
        raise RecipeError(
            f"{str(config)!r} says that the weights are of {architecture!r}, not of timm/{name}. Mend "
            "`model` or `weights`."
        )
    overlay = {key: sees[key] for key in SEEN if key in sees}
    made.pop("num_classes", None)
    return str(path), made | {"pretrained_cfg_overlay": overlay}


def _from_hub(name: str, size: dict[str, int]) -> tuple[Any, str]:
    try:
        model = _create(name, pretrained=True, **size)
    except RecipeError:
        raise
    except Exception as error:
        raise RecipeError(
            f"Cannot get the weights of timm/{name} from the hub ({type(error).__name__}: {error}). "
            "Download its model.safetensors elsewhere and name the file under "
            "embed.encoders.<name>.weights."
        ) from error
    state = model.state_dict()
    sums = {k: float(v.double().sum()) for k, v in state.items()}
    return model, digest(sums, 64)
