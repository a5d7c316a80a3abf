"""A hub that cannot be reached is asked once, and its cache is used."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from curation.errors import RecipeError
from curation.media.encoders.encoder import load_encoder
from curation.media.encoders.hub import hub_or_cache
from curation.media.encoders.params import EncoderSpec
from curation.media.encoders.texts import load_tokenizer

UNAVAILABLE = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
FOUND = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Hub:
    """A server that gives one answer to all, or none.

    Attributes:
        requests: the number of requests.
    """

    def __init__(self, answer: bytes) -> None:
        self.requests = 0
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.requests += 1
                connection.recv(65536)
                connection.sendall(self._answer)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def hub(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Hub]:
    hub = Hub(request.param)
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield hub
    hub.close()


@pytest.mark.parametrize("hub", [b"", UNAVAILABLE], ids=["no answer", "503"], indirect=True)
@pytest.mark.parametrize(
    "model", ["timm/vit_small_patch14_dinov2.lvd142m", "open_clip/ViT-B-32/laion2b_s34b_b79k"]
)
def test_a_hub_without_answers_is_asked_once_and_named(hub: Hub, model: str) -> None:
    with pytest.raises(RecipeError, match=r"from the hub \(HubError: http://127\.0\.0\.1"):
        load_encoder(EncoderSpec(model=model), "cpu")
    assert hub.requests == 1


@pytest.mark.parametrize("hub", [b""], indirect=True)
def test_a_tokenizer_of_the_hub_is_asked_for_once(hub: Hub) -> None:
    with pytest.raises(RecipeError, match=r"tokenizer of .*HubError: http://127\.0\.0\.1"):
        load_tokenizer("ViT-B-16-SigLIP", "ViT-B-16-SigLIP", None)
    assert hub.requests == 1


@pytest.mark.parametrize("hub", [b"", UNAVAILABLE], indirect=True)
def test_what_is_in_the_cache_needs_no_hub(hub: Hub) -> None:
    with hub_or_cache():
        assert huggingface_hub.constants.HF_HUB_OFFLINE
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


@pytest.mark.parametrize("hub", [FOUND], indirect=True)
def test_errors_with_a_hub_are_its_own(hub: Hub) -> None:
    with pytest.raises(KeyError), hub_or_cache():
        assert not huggingface_hub.constants.HF_HUB_OFFLINE
        raise KeyError
