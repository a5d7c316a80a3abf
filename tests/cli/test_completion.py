"""What a shell gets to complete a command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from curation.cli import app
from curation.flow import STAGES
from curation.store.store import Store

from .conftest import Command, World


def completed(line: str) -> list[str]:
    """What bash gets for the last word of a line."""
    words = line.split(" ")
    variables = {
        "_CURATION_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    result = CliRunner().invoke(app, [], prog_name="curation", env=variables)
    return result.stdout.split()


def test_commands_options_and_stages() -> None:
    assert completed("curation ver") == ["versions", "verify-store"]
    assert "--store" in completed("curation runs --s")
    for option in ("--until", "--from", "--only"):
        assert completed(f"curation run r.yaml {option} ") == list(STAGES)
        assert completed(f"curation run r.yaml {option} ass") == ["assign", "assemble"]
    assert completed("curation run r.yaml --cluster l") == ["local"]
    assert "embeddings" in completed("curation show e")
    assert completed("curation schema ru") == ["run", "runs"]


def test_names_of_a_store(world: World, command: Command) -> None:
    store = Store(world.store)
    place = f"--store {world.store}"
    assert completed(f"curation show {place} ") == sorted(store.tables())
    assert completed(f"curation show {place} embeddings.") == ["embeddings.semantic"]
    assert completed(f"curation show {place} --run 2") == [world.run]
    assert completed(f"curation show {place} images --version ") == store.versions("images")
    command("tag", "paper-1", "--store", world.store)
    assert completed(f"curation restore {place} pa") == ["paper-1"]
    assert completed(f"curation show {place} images --run pa") == ["paper-1"]
    assert completed(f"curation tag {place} ") == ["paper-1"]
    assert completed(f"curation sql {world.store} --run pa") == ["paper-1"]
    assert completed(f"curation sql {world.store} -n 3 --run 2") == [world.run]


@pytest.mark.parametrize("place", ["", "missing", "s3://bucket/p?nonsense=1"])
def test_a_store_that_cannot_be_read_completes_nothing(place: str, tmp_path: Path) -> None:
    address = place if "://" in place else str(tmp_path / place)
    assert completed(f"curation show images --store {address} --run ") == []
