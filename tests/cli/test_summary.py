"""What a run says of its dataset, whichever stages it runs."""

from __future__ import annotations

from pathlib import Path

import yaml

from .conftest import Command, World


def test_a_run_of_the_last_stages_says_what_arms_lack(
    world: World, command: Command, tmp_path: Path
) -> None:
    recipe = tmp_path / "wanting.yaml"
    arm = {"name": "near", "seeds": "round", "strategy": "sample", "k": 20}
    recipe.write_text(yaml.safe_dump(world.spec | {"retrieve": [arm]}), encoding="utf-8")
    run = ("run", recipe, "--store", world.store)
    whole = command(*run)
    assert set(whole["shortfalls"]) == {"near"}
    tables = whole["stages"][-1]["tables"]
    assert tables == {"dataset": whole["dataset"]["address"]}
    assert list(Path(tables["dataset"]).glob("*.parquet"))
    for part in (["--only", "assemble"], ["--from", "assemble", "--force"], ["--from", "select"]):
        again = command(*run, *part)
        assert again["shortfalls"] == whole["shortfalls"]
        assert again["dataset"]["version"] == whole["dataset"]["version"]
