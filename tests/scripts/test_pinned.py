"""What is installed and run from elsewhere is pinned by its content."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from scripts import nightly_parts as nightly
from scripts.setup import pinned_uv

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ["constraints.txt", "constraints-airflow.txt"]


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_every_pin_has_a_version_and_hashes(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    pins = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert len(pins) > 100
    for pin in pins:
        assert re.match(r"[\w.-]+==\S+", pin), pin
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", pin), pin


def test_uv_is_installed_by_its_hash(tmp_path: Path) -> None:
    *options, file = pinned_uv(tmp_path)
    assert options == ["--require-hashes", "-r"]
    text = Path(file).read_text(encoding="utf-8")
    assert text.startswith("uv==") and text.count("==") == 1
    assert text.count("--hash=sha256:") > 3 and not text.rstrip().endswith("\\")


def test_actions_are_pinned_by_commit_and_may_only_read() -> None:
    for workflow in (ROOT / ".github" / "workflows").glob("*.yml"):
        text = workflow.read_text(encoding="utf-8")
        used = re.findall(r"uses:\s*(\S+)", text)
        assert used
        for action in used:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), (workflow.name, action)
        assert re.search(r"^permissions:\n  contents: read$", text, re.MULTILINE)
        assert "pull_request_target" not in text
        assert text.count("persist-credentials: false") == text.count("uses: actions/checkout@")


def test_vulnerabilities_are_looked_up_where_the_database_can_be_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(nightly.UnavailableError, match="cannot be reached: no network"):
        nightly.vulnerabilities()
    here, there = socket.socketpair()
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: here)
    commands = nightly.vulnerabilities()
    there.close()
    assert [command.arguments[-1] for command in commands] == [str(ROOT / n) for n in CONSTRAINTS]
    assert all(nightly.PIP_AUDIT in command.arguments for command in commands)
    assert re.fullmatch(r"pip-audit==[\d.]+", nightly.PIP_AUDIT)
