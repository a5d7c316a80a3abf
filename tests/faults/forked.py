"""Runs without the seconds that imports take: each is forked from a process that has imported all."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from multiprocessing import get_context
from pathlib import Path

_PRELOAD = ["tests.faults.run_here", "tests.faults.preload"]


def run_forked(
    recipe: str, store: str, variables: Mapping[str, str], out: Path, limit_s: float
) -> subprocess.CompletedProcess[str]:
    """Run a recipe in a session of its own.

    Args:
        recipe: path of the recipe.
        store: address of the store.
        variables: the whole environment.
        out: file for what it prints.
        limit_s: seconds after which it is killed.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    process = context.Process(target=_run, args=(recipe, store, dict(variables), str(out)))
    process.start()
    process.join(limit_s)
    if process.exitcode is None:
        process.kill()
        process.join()
    text = out.read_text(errors="replace") if out.exists() else ""
    assert process.exitcode is not None
    return subprocess.CompletedProcess([recipe, store], process.exitcode, text)


def _run(recipe: str, store: str, variables: dict[str, str], out: str) -> None:
    os.setsid()
    with Path(out).open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    os.environ.clear()
    os.environ.update(variables)
    from tests.faults.hook import fault_hook
    from tests.faults.run_here import run

    if "CURATION_FAULT" in variables:
        fault_hook.install()
    try:
        run(recipe, store)
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)
