"""Writes the generated pages into a folder: `python -m scripts.reference FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.reference.pages import PAGES


def main(folder: str) -> None:
    """Write every page."""
    for name, make in PAGES.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(make(), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
