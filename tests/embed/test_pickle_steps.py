"""Pickles of weights that make more than a state dict needs are refused before they make anything."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from curation.errors import RecipeError
from curation.media.encoders import pickle_steps, state
from curation.media.encoders.pickle_steps import TooManyStepsError, check_steps
from curation.media.encoders.state import read_content

MOST = 3_000
PUT, GET = b"q", b"h"


def doubled(times: int) -> bytes:
    """A tuple of two tuples, some times over."""
    again = b"".join(
        GET + bytes([n]) * 1 + GET + bytes([n]) + b"\x86" + PUT + bytes([n + 1])
        for n in range(times)
    )
    return b")" + PUT + b"\0" + again


def memoized(times: int) -> bytes:
    """The same as newer pickles write it."""
    again = b"".join(GET + bytes([n]) + GET + bytes([n]) + b"\x86\x94" for n in range(times))
    return b")\x94" + again


BOMBS: dict[str, bytes] = {
    "lists": b"\x80\x02}" + b"X\x01\0\0\0a" + b"]" * 10_000 + b"s.",
    "a key of tuples": b"\x80\x02}" + doubled(60) + b"K\x01s.",
    "a key of tuples of protocol 4": b"\x80\x04}" + memoized(60) + b"K\x01s.",
    "a key of tuples that are copied": b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s.",
    "a key of tuples between marks": b"\x80\x02})" + b"q\0(h\0h\0t" * 60 + b"K\x01s.",
}


def as_archive(content: bytes, path: Path, name: str = "archive/data.pkl") -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/version", "3\n")
        archive.writestr(name, content)


def as_old_file(content: bytes, path: Path) -> None:
    out = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, out, _use_new_zipfile_serialization=False)
    before = out.getvalue()
    for _ in range(3):
        before = before[before.index(b".\x80\x02") + 1 :]
    start = out.getvalue()[: -len(before)]
    path.write_bytes(start + content + pickle.dumps([], 2))


@pytest.mark.parametrize("write", [as_archive, as_old_file])
@pytest.mark.parametrize("bomb", BOMBS)
def test_what_makes_too_much_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bomb: str,
    write: Callable[[bytes, Path], None],
) -> None:
    monkeypatch.setattr(pickle_steps, "MAX_STEPS", MOST)
    write(BOMBS[bomb], tmp_path / "w.pt")
    with pytest.raises(RecipeError, match="makes more than"):
        read_content(tmp_path / "w.pt", "w.pt")


@pytest.mark.parametrize("name", ["archive/DATA.pkl", "other/data.pkl", "data.pkl"])
def test_a_pickle_of_another_name_is_checked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(pickle_steps, "MAX_STEPS", MOST)
    as_archive(BOMBS["lists"], tmp_path / "w.pt", name)
    with pytest.raises(RecipeError, match="makes more than"):
        read_content(tmp_path / "w.pt", "w.pt")


@pytest.mark.parametrize("old", [False, True])
def test_checkpoints_of_training_are_read(tmp_path: Path, old: bool) -> None:
    model = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(50)))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.zeros(2, 4)).sum().backward()
    optimizer.step()
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "n": (1, (2, 3))}
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=not old)
    read = read_content(tmp_path / "w.pt", "w.pt")
    assert isinstance(read["model"], OrderedDict)
    assert all(torch.equal(read["model"][k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [{"a": (1, (2, 3), [4])}, [(1,)] * 20, (("x", 1.5), None, True), [[[]]] * 3, {(1, 2): {3}}],
)
def test_plain_values_of_any_protocol_pass(value: Any, protocol: int) -> None:
    check_steps(io.BytesIO(pickle.dumps(value, protocol)), 1)


def test_what_is_no_pickle_is_an_error() -> None:
    for content in (b"", b"words", b"\x80\x02]"):
        with pytest.raises(ValueError) as raised:
            check_steps(io.BytesIO(content), 1)
        assert not isinstance(raised.value, TooManyStepsError)


def test_a_long_list_of_members_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MAX_DIRECTORY", 10_000)
    local = b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"a"
    entry = b"PK\x01\x02" + struct.pack("<HHHHHHIIIHHHHHII", 20, 20, *[0] * 7, 1, *[0] * 6) + b"a"
    size, count = len(entry) * 300, 300
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count, count, size, len(local), 0)
    (tmp_path / "w.pt").write_bytes(local + entry * count + end)
    with pytest.raises(RecipeError, match="list of members"):
        read_content(tmp_path / "w.pt", "w.pt")
