"""Weights of a small model of timm, and a network that nobody may reach."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """A small ViT of timm with random but fixed weights and a classifier."""
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=7).eval()
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    return str(path), model


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Note every attempt to reach another machine."""
    reached: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> Any:
        reached.append(arguments)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield reached
    assert not reached
