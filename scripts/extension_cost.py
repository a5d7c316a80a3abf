"""Prints how many files each example of docs/extending.md adds and edits.

`python -m scripts.extension_cost`; the page itself shows the same table.
"""

from __future__ import annotations

from scripts.extensions import extensions


def cost_table() -> str:
    """Return the table as Markdown; pins and the changelog are not counted."""
    lines = ["| new | files added | existing files edited |", "| --- | --- | --- |"]
    for name, blocks in extensions().items():
        added = [block.path for block in blocks if block.is_new]
        edited = [f"`{path}`" for path in dict.fromkeys(b.path for b in blocks if not b.is_new)]
        paths = f": {', '.join(edited)}" if edited else ""
        lines.append(f"| {name} | {len(added)} | {len(edited)}{paths} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(cost_table())
