"""The composition in terminals of any width: no word is broken, and a caption names hidden columns."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from curation.cli.composition_grid import composition_grid

ROW = {
    "arm": "textures-cluster",
    "seed_set": "textures",
    "strategy": "cluster",
    "seed_rows": 46,
    "seed_images": 46,
    "requested": 140_000,
    "available": 318_000,
    "retrieved": 135_000,
    "unique": 135_000,
    "capped": 0,
    "final": 135_000,
    "final_images": 134_999,
    "shortfall": 5_000,
}


@pytest.mark.parametrize("width", [80, 100, 160])
def test_no_word_is_broken(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width)
    console.print(composition_grid("Composition", [ROW], 135_000, console, 99_998))
    text = out.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for word in (
        "textures-cluster",
        "requested",
        "140,000",
        "final",
        "135,000",
        "99,998",
        "shortfall",
    ):
        assert word in text
    assert ("Not shown in this width" in text) == (width < 160)
