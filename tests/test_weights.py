"""What a recipe needs is listed; missing weights are downloaded, if they have its SHA-256."""

from __future__ import annotations

import hashlib
import io
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from curation.cli import app
from curation.errors import RecipeError
from curation.flow import plan
from curation.inspect.weights import needs_of
from curation.media.encoders import ENCODERS, EncoderEntry, download
from curation.media.encoders.download import download_weights
from curation.media.encoders.params import EncoderSpec
from curation.recipe import parse_recipe

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SOURCES = [
    {"name": "web", "role": "pool", "format": "folder", "path": "pool"},
    {"name": "birds", "role": "seed", "format": "folder", "path": "seeds"},
]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A web server on loopback with one file; its address, and the paths that were requested."""
    requested: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested.append(self.path)
            if self.path == "/cut":
                self.send_response(200)
                self.send_header("Content-Length", str(2 * len(CONTENT)))
                self.end_headers()
                self.wfile.write(CONTENT)
                return
            self.send_response(200 if self.path == "/model" else 404)
            self.end_headers()
            self.wfile.write(CONTENT if self.path == "/model" else b"not here")

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}", requested
        web.shutdown()
        thread.join()


def _recipe(weights_from: str, sha256: str = SHA256) -> dict[str, Any]:
    origin = {"sha256": sha256, "weights_from": weights_from}
    head = {"kind": "linear", "encoder": "semantic", "weights": "models/head.pt"}
    encoders = {
        "semantic": {"model": "vit_micro"},
        "other": {"model": "timm/resnet18", "weights": "models/deep/other.pt", **origin},
        "hub": {"model": "timm/resnet18.a1_in1k"},
    }
    return {
        "name": "r",
        "sources": SOURCES,
        "embed": {"encoders": encoders},
        "dedup": {"near": {"encoder": "semantic"}},
        "cluster": {"encoder": "semantic"},
        "score": {"heads": {"birds": head | origin}},
        "fetch": {"faces": {"detector": "yunet", "weights": "models/faces.onnx", **origin}},
        "screen": {"words": {"bad": {"file": "words.txt"}}},
        "retrieve": [{"name": "all", "seeds": "birds", "strategy": "as_is"}],
    }


def test_the_command_lists_and_downloads_once(
    server: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    address, requested = server
    (tmp_path / "words.txt").write_text("word\n")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(_recipe(f"{address}/model")))
    files = [tmp_path / "models" / name for name in ("deep/other.pt", "head.pt", "faces.onnx")]

    listed = CliRunner().invoke(app, ["weights", "recipe.yaml", "--no-fetch"])
    assert isinstance(listed.exception, RecipeError)
    assert not requested and not any(file.exists() for file in files)

    assert CliRunner().invoke(app, ["weights", "recipe.yaml"]).exit_code == 0
    assert [file.read_bytes() for file in files] == [CONTENT] * 3
    assert requested == ["/model"] * 3
    assert list((tmp_path / "models").rglob(".*")) == []

    again = CliRunner().invoke(app, ["weights", "recipe.yaml"])
    assert (again.exit_code, len(requested)) == (0, 3)
    assert "part of this package" in again.output and "words.txt" in again.output


def test_the_state_of_each_need_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "source").write_bytes(CONTENT)
    uri = (tmp_path / "source").as_uri()
    needs = {need.place: need for need in needs_of(parse_recipe(_recipe(uri)), True)}
    assert needs["embed.encoders.other"].state.startswith("downloaded, 1,280,000 bytes")
    assert "no pinned revision" in needs["embed.encoders.hub"].state
    assert "path of a file" in str(needs["screen.words.bad.file"].problem)
    (tmp_path / "models" / "head.pt").write_bytes(b"something else")
    needs = {need.place: need for need in needs_of(parse_recipe(_recipe(uri)), True)}
    assert "are not the file that the recipe trusts" in str(needs["score.heads.birds"].problem)
    assert needs["fetch.faces"].problem is None


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/model", "is not the file that the recipe trusts"),
        ("/missing", "404"),
        ("/cut", "is not the file that the recipe trusts"),
    ],
)
def test_nothing_is_written_unless_it_is_the_file(
    server: tuple[str, list[str]], tmp_path: Path, path: str, words: str
) -> None:
    expected = "0" * 64 if path == "/model" else SHA256
    target = tmp_path / "models" / "m.pt"
    if path == "/cut":
        # What was received is complete, but not all that the server promised.
        expected = hashlib.sha256(CONTENT * 2).hexdigest()
    with pytest.raises(RecipeError, match=words):
        download_weights(server[0] + path, str(target), expected)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(
    "address",
    [
        "https://huggingface.co/o/m/resolve/main/model.safetensors",
        "https://hf.co/o/m/resolve/v1.0/model.safetensors",
        "https://huggingface.co/o/m/blob/main/model.safetensors",
        "ftp://example.org/model",
        "models/local.pt",
    ],
)
def test_an_address_that_may_change_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"names a commit|begins with"):
        EncoderSpec(model="timm/resnet18", weights="w", sha256=SHA256, weights_from=address)
    pinned = f"https://huggingface.co/o/m/resolve/{COMMIT}/model.safetensors"
    EncoderSpec(model="timm/resnet18", weights="w", sha256=SHA256, weights_from=pinned)
    with pytest.raises(ValueError, match="sha256"):
        EncoderSpec(model="timm/resnet18", weights="w", weights_from=pinned)


class _Answer(io.BytesIO):
    url = "http://mirror.example/w"


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("http://a.example/w", "more than 999 bytes"),
        ("https://a.example/w", "leads to http://mirror.example/w, which is not encrypted"),
    ],
)
def test_an_answer_is_bounded_and_stays_encrypted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, problem: str
) -> None:
    content = bytes(1000)
    monkeypatch.setattr(download, "MAX_BYTES", 999)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: _Answer(content))
    with pytest.raises(RecipeError, match=problem):
        download_weights(address, str(tmp_path / "w"), hashlib.sha256(content).hexdigest())
    assert not list(tmp_path.iterdir())


def test_where_weights_come_from_changes_no_fingerprint() -> None:
    specs = [_recipe(f"https://example.org/{name}") for name in "ab"]
    first, second = (plan(parse_recipe(spec)) for spec in specs)
    assert [step.fingerprint for step in first] == [step.fingerprint for step in second]


def test_a_family_without_weights_is_not_said_to_be_of_the_hub(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As that of a plug-in."""
    monkeypatch.setitem(ENCODERS._entries, "bare", EncoderEntry("bare"))
    models = {"semantic": "bare", "copy": "copy_micro", "other": "timm/resnet18"}
    encoders = {name: {"model": model} for name, model in models.items()}
    cluster = {"encoder": "semantic"}
    blocks = {"embed": {"encoders": encoders}, "cluster": cluster}
    needs = needs_of(parse_recipe({"name": "a", "sources": SOURCES} | blocks), fetch=False)
    states = {need.what: need.state for need in needs}
    assert states["bare"] == "without a file of weights"
    assert states["copy_micro"] == "part of this package"
    assert "from the hub" in states["timm/resnet18"]
