"""Changed code must not be mistaken for the old: a stage's version goes with its source."""

from __future__ import annotations

import json

from .pins import PINS, current_pins


def test_stages_are_pinned():
    pinned, found = json.loads(PINS.read_text()), current_pins()
    changed = [name for name in found if found[name] != pinned.get(name)]
    assert not changed, (
        f"The source of {changed} changed. If a stage gives other rows than before, raise its version "
        "in curation/flow.py; then run `python -m tests.pins`."
    )
