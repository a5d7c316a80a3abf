"""Hooks of mkdocs: reference pages made from the code, and pages of the repository outside docs/.

Links in docs/ are written as they work in the repository. Here a link to a file that the site holds is
made to point there, a link to another file of the repository becomes plain text, and a link to no file
at all is an error.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.extension_cost import cost_table  # noqa: E402
from scripts.reference.pages import PAGES  # noqa: E402

OUTSIDE = {
    "benchmarks/results": "results",
    "curation/media/encoders/weights": "model-cards",
    "quickstart": "quickstart",
}
"""Folders of the repository whose Markdown and images are part of the site, and where they go."""
ENDINGS = (".md", ".png", ".svg")
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s:#]+)(#[^)\s]*)?\)")
COST = "<!-- extension cost -->"
"""Where a page shows how many files each extension touches."""
FENCE = re.compile(r"(^```.*?^```\s*?$)", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not stand in docs/."""
    for name, make in PAGES.items():
        files.append(File.generated(config, name, content=make()))
    for source, place in _outside().items():
        # They are reached by links, not by the navigation.
        entry = File.generated(config, place, abs_src_path=str(ROOT / source))
        entry.inclusion = entry.inclusion.NOT_IN_NAV
        files.append(entry)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links to files of the repository work within the site, and put in the generated table."""
    if COST in markdown:
        markdown = markdown.replace(COST, cost_table())
    parts = FENCE.split(markdown)
    parts[::2] = [
        LINK.sub(lambda link: _link(link, page.file.src_uri), part) for part in parts[::2]
    ]
    return "".join(parts)


def _outside() -> dict[str, str]:
    """Return the place in the site of each file outside docs/, by its path in the repository."""
    return {
        path.relative_to(ROOT).as_posix(): f"{target}/{path.name}"
        for folder, target in OUTSIDE.items()
        for path in sorted((ROOT / folder).iterdir())
        if path.suffix in ENDINGS
    }


def _link(link: re.Match[str], place: str) -> str:
    """Return a link of the page at `place` in the site as it works there."""
    text, target, fragment = link[1], link[2], link[3] or ""
    outside = _outside()
    source = next((s for s, p in outside.items() if p == place), f"docs/{place}")
    wanted = os.path.normpath(Path(source).parent / target).replace(os.sep, "/")
    if wanted in outside:
        page = outside[wanted]
    elif wanted.startswith("docs/"):
        page = wanted.removeprefix("docs/")
    elif (ROOT / wanted).exists():
        return text
    else:
        raise PluginError(
            f"{source}: the link [{text}]({target}) leads to {wanted}, which does not exist"
        )
    return f"[{text}]({os.path.relpath(page, Path(place).parent)}{fragment})"
