"""Geometry of the pictures that are drawn: the template turns it into SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curation.inspect.report.books import Line

FUNNEL_WIDTH, FUNNEL_HEIGHT, BAR = 940.0, 110.0, 84.0
PLOT_WIDTH, PLOT_HEIGHT = 420.0, 150.0


@dataclass(frozen=True)
class Step:
    """One bar of a funnel, centred on its axis; `link` is the polygon to the next bar."""

    label: str
    rows: int
    lost: int
    x: float
    y: float
    height: float
    link: str


@dataclass(frozen=True)
class Funnel:
    """The way of one role through the flow."""

    role: str
    steps: list[Step]


@dataclass(frozen=True)
class Bin:
    """One bar of a histogram."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True)
class Histogram:
    """Bars over values from `low` to `high`; the highest bar counts `most`."""

    bins: list[Bin]
    low: int
    high: int
    most: int


@dataclass(frozen=True)
class Curve:
    """A line over its iterations: `points` for a polyline."""

    points: str
    first: float
    last: float
    low: float
    high: float
    count: int


def funnels(lines: Sequence[Line]) -> list[Funnel]:
    """Return a funnel for pool and seeds, each on its own scale."""
    found = []
    for role in ("pool", "seed"):
        own = {line.stage: line for line in lines if line.role == role}
        if "ingest" not in own:
            continue
        rows = [own["ingest"].rows_in]
        for stage in ("ingest", "fetch", "select", "retrieve"):
            rows.append(own[stage].rows_out if stage in own else 0)
        found.append(Funnel(role, _steps(rows)))
    return found


def _steps(rows: Sequence[int]) -> list[Step]:
    labels = ("asked for", "to fetch", "fetched", "eligible", "in the dataset")
    gap = (FUNNEL_WIDTH - BAR * len(rows)) / (len(rows) - 1)
    # A bar too thin to see would seem to be none.
    heights = [max(FUNNEL_HEIGHT * n / max(rows[0], 1), 2.0 if n else 0.5) for n in rows]
    tops = [(FUNNEL_HEIGHT - h) / 2 for h in heights]
    steps = []
    for i, (label, count) in enumerate(zip(labels, rows, strict=True)):
        x = i * (BAR + gap)
        link = ""
        if i + 1 < len(rows):
            corners = [
                (x + BAR, tops[i]),
                (x + BAR + gap, tops[i + 1]),
                (x + BAR + gap, tops[i + 1] + heights[i + 1]),
                (x + BAR, tops[i] + heights[i]),
            ]
            link = _points(corners)
        lost = rows[i - 1] - count if i else 0
        steps.append(
            Step(label, count, lost, round(x, 1), round(tops[i], 1), round(heights[i], 1), link)
        )
    return steps


def _points(corners: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)


def histogram(values: Sequence[int], bins: int = 24) -> Histogram | None:
    """Return the histogram of some sizes; None where there are none."""
    if not len(values):
        return None
    low, high = int(min(values)), int(max(values))
    # Whole numbers deserve bins that hold equally many of them.
    width = max(-(-(high - low + 1) // bins), 1)
    edges = np.arange(low, high + width + 1, width)
    counts, _ = np.histogram(values, edges)
    most = int(counts.max())
    step = PLOT_WIDTH / len(counts)
    found = []
    for i, count in enumerate(counts.tolist()):
        height = PLOT_HEIGHT * count / most
        first, last = int(edges[i]), int(edges[i + 1]) - 1
        span = f"{first:,}" if first == last else f"{first:,} to {last:,}"
        found.append(
            Bin(
                round(i * step, 2),
                round(PLOT_HEIGHT - height, 2),
                round(max(step - 1.5, 0.5), 2),
                round(height, 2),
                f"{count:,} clusters of {span}",
            )
        )
    return Histogram(found, low, int(edges[-1]) - 1, most)


def curve(values: Sequence[float]) -> Curve | None:
    """Return the line through some values; None for fewer than two."""
    if len(values) < 2:
        return None
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = PLOT_WIDTH / (len(values) - 1)
    points = [(i * step, PLOT_HEIGHT * (1 - (v - low) / span)) for i, v in enumerate(values)]
    return Curve(_points(points), values[0], values[-1], low, high, len(values))
