"""Pages of HTML from the templates of this package. Captions, links and keys in them are untrusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from curation.secrets import conceal


def render_page(
    template: Path, content: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]]
) -> bytes:
    """Return a page in UTF-8. Everything in `content` is escaped, and a missing value is an error.

    Secrets are concealed.

    Args:
        template: a Jinja template. It may include those of its folder, and the macros of the report.
        content: what the template shows.
        filters: functions that the template may call by name.
    """
    report = Path(__file__).parent / "report"
    environment = Environment(
        loader=FileSystemLoader([template.parent, report]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_without_secrets,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    page = environment.get_template(template.name).render(content)
    return page.encode("utf-8", errors="replace")


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Markup):
        return Markup(conceal(value))
    return conceal(value) if isinstance(value, str) else value


def format_number(value: float | None, digits: int = 0) -> str:
    """Return a number with thousands separators; – for None."""
    return "–" if value is None else f"{value:,.{digits}f}"


def format_percent(value: float | None) -> str:
    """Return a fraction as a percentage; – for None."""
    return "–" if value is None else f"{100 * value:.1f} %"
