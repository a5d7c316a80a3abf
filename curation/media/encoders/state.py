"""The tensors in a weights file: safetensors, or a state dict of plain tensors. No pickle is run."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from curation.errors import RecipeError
from curation.media.encoders.params import Checkpoint
from curation.media.encoders.pickle_steps import check_steps

MAX_EXPANSION = 2**28
"""Bytes by which the content of an archive may be larger than the archive."""
MAX_DIRECTORY = 2**24
"""Bytes of the list of the members of an archive: Python takes ten times as many for it."""
_PICKLES = 5
"""Pickles at the beginning of a file that torch wrote before it wrote archives."""
_ARCHIVE = b"PK\x03\x04"


def tensors_of(
    file: Path, path: str, checkpoint: Checkpoint | None = None
) -> dict[str, torch.Tensor]:
    """Return the tensors of a weights file.

    Args:
        file: a copy that nobody changes; a safetensors file, or a state dict of plain tensors.
        path: of the original, for messages.
        checkpoint: how its keys are changed.

    Raises:
        RecipeError: the file has another format, or lacks a key that `checkpoint` names.
    """
    state = _state_dict(read_content(file, path), checkpoint or Checkpoint(), path)
    _check_tensors(state, file.stat().st_size, path)
    return _map_keys(state, checkpoint or Checkpoint(), path)


def read_content(file: Path, path: str) -> Any:
    """Return what a weights file holds; see `tensors_of`."""
    try:
        check_expansion(file, path)
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        _check_steps(file)
        # Without weights_only, an untrusted pickle could run code.
        return torch.load(file, map_location="cpu", weights_only=True)
    except RecipeError:
        raise
    except Exception as error:
        raise RecipeError(
            f"{path!r} is neither safetensors nor a state dict of plain tensors: {error}",
            fix="Save the state dict of the model with safetensors, or with torch.save",
        ) from error


def check_expansion(file: Path, path: str) -> None:
    """Check that an archive does not hold much more than its size.

    Raises:
        RecipeError: it does.
    """
    if not zipfile.is_zipfile(file):
        return
    _check_directory(file, path)
    with zipfile.ZipFile(file) as archive:
        content = sum(member.file_size for member in archive.infolist())
    size = file.stat().st_size
    if content > size + MAX_EXPANSION:
        raise RecipeError(
            f"{path!r} has {size:,} bytes and expands to {content:,}, as no archive of torch does",
            fix="Download it again",
        )


def _check_directory(file: Path, path: str) -> None:
    with file.open("rb") as stream:
        # The end of an archive, in one of two forms.
        end = zipfile._EndRecData(stream)  # type: ignore[attr-defined]
    size = end[zipfile._ECD_SIZE]  # type: ignore[attr-defined]
    if size > MAX_DIRECTORY:
        raise RecipeError(
            f"{path!r} has a list of members of {size:,} bytes, as no archive of torch has",
            fix="Download it again",
        )


def _check_steps(file: Path) -> None:
    """Check the pickle of an archive, or those at the beginning of a file of an old version of torch.

    Raises:
        ValueError: they make more than a state dict needs, or are no pickles.
    """
    with file.open("rb") as stream:
        # torch decides by the first bytes too: an archive may follow the pickles.
        if stream.read(len(_ARCHIVE)) != _ARCHIVE:
            stream.seek(0)
            check_steps(stream, _PICKLES)
            return
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            # torch takes any case, and one of several.
            if member.filename.lower().rpartition("/")[2] == "data.pkl":
                with archive.open(member) as stream:
                    check_steps(stream, 1)


def _check_tensors(state: dict[str, torch.Tensor], size: int, path: str) -> None:
    """Check that no tensor is larger than its file: a view may repeat one number a trillion times."""
    large = [n for n, t in state.items() if t.numel() * t.element_size() > size]
    if large:
        raise RecipeError(
            f"{path!r} has tensors that are larger than the file: {_list_names(large)}",
            fix="Download it again, or save its tensors with `contiguous()`",
        )


def _state_dict(content: Any, checkpoint: Checkpoint, path: str) -> dict[str, torch.Tensor]:
    """Return the state dict in the content of a weights file."""
    if not isinstance(content, dict):
        raise RecipeError(
            f"{path!r} contains a {type(content).__name__} instead of a state dict",
            fix="Save the model's state_dict()",
        )
    if checkpoint.entry is not None:
        if not isinstance(content.get(checkpoint.entry), dict):
            raise RecipeError(
                f"{path!r} has no entry {checkpoint.entry!r} with a model; it has "
                f"{_list_names(content)}",
                fix="Correct `checkpoint.entry`",
            )
        content = content[checkpoint.entry]
    others = [name for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise RecipeError(
            f"{path!r} is not a plain state dict: {_list_names(others)} are not tensors",
            fix="If one of them holds the model, set `checkpoint.entry` to it",
        )
    return dict(content)


def _map_keys(
    state: dict[str, torch.Tensor], checkpoint: Checkpoint, path: str
) -> dict[str, torch.Tensor]:
    """Return a state dict with the keys that `checkpoint` gives."""
    mapped: dict[str, torch.Tensor] = {}
    used = set()
    for name, value in state.items():
        dropped = next((prefix for prefix in checkpoint.drop if name.startswith(prefix)), None)
        if dropped is not None:
            used.add(dropped)
            continue
        prefixes = [prefix for prefix in checkpoint.rename if name.startswith(prefix)]
        prefix = max(prefixes, key=len, default="")
        used.update([prefix] if prefixes else [])
        new_name = checkpoint.rename.get(prefix, prefix) + name.removeprefix(prefix)
        if new_name in mapped:
            raise RecipeError(
                f"{path!r}: `checkpoint.rename` gives two tensors the name {new_name!r}",
                fix="Correct it",
            )
        mapped[new_name] = value
    unused = [p for p in (*checkpoint.drop, *checkpoint.rename) if p not in used]
    if unused:
        raise RecipeError(
            f"{path!r} has no key that begins with {_list_names(unused)}; its keys are "
            f"{_list_names(state)}",
            fix="Correct `checkpoint`",
        )
    return mapped


def _list_names(names: Iterable[str]) -> str:
    """Return the first names as a list for a message."""
    all_names = list(names)
    rest = f" and {len(all_names) - 8} more" if len(all_names) > 8 else ""
    return ", ".join(repr(name) for name in all_names[:8]) + rest
