"""Where a model of open_clip comes from: the hub, a file, or a folder, of which a copy is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import open_clip
import timm
from open_clip.factory import _find_checkpoint_in_dir

from curation.errors import Detail, RecipeError
from curation.media.encoders import close_names
from curation.media.encoders.folder_config import check_numbers, check_preprocessing
from curation.media.encoders.hub import without_hub
from curation.media.encoders.params import EncoderSpec
from curation.media.encoders.private_copy import PrivateCopy
from curation.media.encoders.texts import (
    TOKENIZER_FILES,
    TOWER_CONFIG,
    clean_tokenizer_config,
    tower_config,
)
from curation.store.digest import digest

CONFIG = "open_clip_config.json"


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from.

    Attributes:
        name: of the model in open_clip.
        config: its configuration.
        file: its weights file; None for weights of the hub.
        shown: the file or folder that the recipe names, for messages.
        tag: of its weights on the hub.
    """

    name: str
    config: dict[str, Any]
    file: str | None
    shown: str | None = None
    tag: str | None = None

    @property
    def shown_file(self) -> str:
        """The weights file in the place that the recipe names, for messages."""
        name = Path(self.file or "").name
        return str(Path(self.shown or "", name)) if self.folder is not None else str(self.shown)

    @property
    def folder(self) -> str | None:
        """The folder that contains the whole model; None if there is none."""
        name = self.name.removeprefix("local-dir:")
        return name if name != self.name else None

    @property
    def architecture(self) -> str:
        """The architecture in the identity of vectors: for a folder, a digest of its configuration."""
        if self.folder is None:
            return self.name
        # A text tower of transformers has a configuration file of its own.
        has_tower = "hf_model_name" in self.config["text_cfg"]
        return digest([self.config, tower_config(self.folder)] if has_tower else self.config)


def find_model(name: str, spec: EncoderSpec) -> ModelSource:
    if not name:
        return _from_folder(str(spec.weights))
    architecture, _, tag = name.partition("/")
    config = open_clip.get_model_config(architecture)
    if config is None:
        raise RecipeError(
            f"open_clip has no model {architecture!r}",
            fix=close_names(architecture, open_clip.list_models()),
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag and tag.lower() not in tags:
        message = f"open_clip has no weights {tag!r} of {architecture}"
        raise RecipeError(Detail(message, found=tag, valid=tuple(tags)))
    if tag and spec.weights:
        raise RecipeError(
            f"open_clip/{name} names weights of the hub, and the recipe has `weights`",
            fix="Remove either `weights` or the tag",
        )
    if not tag and not spec.weights:
        example = f"open_clip/{architecture}/{tags[0] if tags else '<tag>'}"
        fix = f"Name a file as `weights`, or a tag of the hub, as in {example}"
        message = f"open_clip/{architecture} needs weights"
        raise RecipeError(Detail(message, valid=tuple(tags), fix=fix))
    if spec.weights and Path(spec.weights).is_dir():
        raise RecipeError(
            f"{spec.weights!r} is a folder, and the weights of open_clip/{name} are a file",
            fix="Name the file in it; or set `model: open_clip` for a folder with its configuration",
        )
    return ModelSource(architecture, config, spec.weights, spec.weights, tag or None)


def _from_folder(folder: str, shown: str | None = None) -> ModelSource:
    """Return the model in a folder, or in its copy, whose original is `shown`."""
    shown, file = shown or folder, Path(folder) / CONFIG
    path = Path(shown) / CONFIG
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        config = dict(content["model_cfg"])
        dict(config["text_cfg"]), dict(config["vision_cfg"]), int(config["embed_dim"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RecipeError(
            f"{str(path)!r} is not a configuration of open_clip ({type(error).__name__}: {error})",
            fix=(
                "Set `weights` to a folder downloaded from the hub, with that file; or set "
                "`model` to an architecture, as in model: open_clip/ViT-B-32, and `weights` to a "
                "file"
            ),
        ) from error
    check_numbers(config, str(path))
    check_preprocessing(content.get("preprocess_cfg") or {}, str(path))
    _check_names(config, str(path))
    weights = _find_checkpoint_in_dir(Path(folder))
    if weights is None:
        raise RecipeError(
            f"The folder {shown!r} has no weights", fix="Put open_clip_model.safetensors there"
        )
    return ModelSource(f"local-dir:{folder}", config, str(weights), shown)


def _check_names(config: dict[str, Any], shown: str) -> None:
    """Check that a configuration names no model of another place."""
    name = config["vision_cfg"].get("timm_model_name")
    if name is not None and not timm.is_model(str(name).partition(".")[0]):
        raise RecipeError(
            f"{shown!r} names the image tower {name!r}, which is no architecture of timm; folders and "
            "repositories are not accepted there",
            fix="Download the file again from where the model was published",
        )


@contextmanager
def copied(source: ModelSource, spec: EncoderSpec) -> Iterator[tuple[ModelSource, str | None]]:
    """Copy the files of a model, so that they are hashed and loaded as they are now.

    Nothing is downloaded for them; what a folder names is beside it.
    """
    if source.file is None:
        yield source, None
        return
    of_file = Path(source.file).name
    names = (CONFIG, TOWER_CONFIG, *TOKENIZER_FILES, of_file)
    with ExitStack() as stack:
        copy = stack.enter_context(PrivateCopy(source.shown or source.file, names))
        copy.check(spec.sha256)
        if source.folder is None:
            yield replace(source, file=str(copy.path)), copy.sha256_of(of_file)
            return
        stack.enter_context(without_hub())
        # The configuration may have changed since it was read.
        source = _from_folder(str(copy.path), source.shown)
        clean_tokenizer_config(copy.path, copy.shown)
        yield source, copy.sha256_of(of_file)
