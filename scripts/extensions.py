"""The examples of docs/extending.md: which files each adds and edits, applied to a copy of the tree.

A fenced block that begins with `# file: PATH` is a new file. One that begins with `# edit: PATH` edits
an existing file: the lines below `# after: TEXT` are added after the one line that contains TEXT, those
below `# replace: TEXT` stand in place of that line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "extending.md"
SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
BLOCK = re.compile(r"^```\w+\n# (file|edit): (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CHANGE = re.compile(r"^# (after|replace): (.+)\n", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One block of a section: the text of a new file, or the changes of an existing one."""

    path: str
    is_new: bool
    text: str

    def apply(self, root: Path) -> None:
        """Write the file into a copy of the tree.

        Raises:
            ValueError: a new file is there already, or the place of a change is not exactly one line.
        """
        path = root / self.path
        if self.is_new:
            if path.exists():
                raise ValueError(f"{self.path} is there already; the block should be an edit")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.text, encoding="utf-8")
            return
        text = path.read_text(encoding="utf-8")
        _, *changes = CHANGE.split(self.text)
        for how, anchor, lines in zip(changes[::3], changes[1::3], changes[2::3], strict=True):
            # A formatter of the page may put an empty line before the next change.
            text = self._changed(text, how, anchor, lines.rstrip("\n") + "\n")
        path.write_text(text, encoding="utf-8")

    def _changed(self, text: str, how: str, anchor: str, lines: str) -> str:
        matches = [line for line in text.splitlines(keepends=True) if anchor in line]
        if len(matches) != 1:
            raise ValueError(f"{self.path}: {len(matches)} lines contain {anchor!r}; wanted is one")
        return text.replace(matches[0], lines if how == "replace" else matches[0] + lines)


def extensions(page: Path = PAGE) -> dict[str, list[Block]]:
    """Return the blocks of each section of the page that has any."""
    _, *parts = SECTION.split(page.read_text(encoding="utf-8"))
    sections = zip(parts[::2], parts[1::2], strict=True)
    blocks = {
        name: [Block(path, kind == "file", text) for kind, path, text in BLOCK.findall(body)]
        for name, body in sections
    }
    return {name: of_section for name, of_section in blocks.items() if of_section}
