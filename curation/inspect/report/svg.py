"""Geometry of the charts of the report; the template turns it into SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.inspect.report.row_counts import StageCounts

FUNNEL_WIDTH, FUNNEL_HEIGHT, BAR_WIDTH = 940.0, 110.0, 84.0
PLOT_WIDTH, PLOT_HEIGHT = 420.0, 150.0


@dataclass(frozen=True)
class FunnelBar:
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
    """How many rows of one role each step of the flow passes on."""

    role: str
    bars: list[FunnelBar]


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
    """Bins over values from `low` to `high`; the highest bin counts `largest_count`."""

    bins: list[Bin]
    low: int
    high: int
    largest_count: int


@dataclass(frozen=True)
class Curve:
    """A value over iterations; `points` are those of an SVG polyline."""

    points: str
    first: float
    last: float
    low: float
    high: float
    count: int


def funnels(lines: Sequence[StageCounts]) -> list[Funnel]:
    """Return a funnel for the pool and one for the seeds, each on its own scale."""
    charts = []
    for role in ("pool", "seed"):
        by_stage = {line.stage: line for line in lines if line.role == role}
        if "ingest" not in by_stage:
            continue
        rows = [by_stage["ingest"].rows_in]
        for stage in ("ingest", "fetch", "select", "retrieve"):
            rows.append(by_stage[stage].rows_out if stage in by_stage else 0)
        charts.append(Funnel(role, _funnel_bars(rows)))
    return charts


def _funnel_bars(rows: Sequence[int]) -> list[FunnelBar]:
    labels = ("in the sources", "to fetch", "fetched", "eligible", "in the dataset")
    gap = (FUNNEL_WIDTH - BAR_WIDTH * len(rows)) / (len(rows) - 1)
    # A bar that is too thin to see would look like no rows.
    heights = [max(FUNNEL_HEIGHT * n / max(rows[0], 1), 2.0 if n else 0.5) for n in rows]
    tops = [(FUNNEL_HEIGHT - h) / 2 for h in heights]
    bars = []
    for i, (label, count) in enumerate(zip(labels, rows, strict=True)):
        x = i * (BAR_WIDTH + gap)
        link = ""
        if i + 1 < len(rows):
            corners = [
                (x + BAR_WIDTH, tops[i]),
                (x + BAR_WIDTH + gap, tops[i + 1]),
                (x + BAR_WIDTH + gap, tops[i + 1] + heights[i + 1]),
                (x + BAR_WIDTH, tops[i] + heights[i]),
            ]
            link = _format_points(corners)
        lost = rows[i - 1] - count if i else 0
        bars.append(
            FunnelBar(
                label, count, lost, round(x, 1), round(tops[i], 1), round(heights[i], 1), link
            )
        )
    return bars


def _format_points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def histogram(values: npt.NDArray[np.int64], bins: int = 24) -> Histogram | None:
    """Return the histogram of cluster sizes; None if there are none."""
    if not len(values):
        return None
    low, high = int(values.min()), int(values.max())
    # Every bin holds the same number of whole numbers.
    width = max(-(-(high - low + 1) // bins), 1)
    edges = np.arange(low, high + width + 1, width)
    counts, _ = np.histogram(values, edges)
    largest = int(counts.max())
    step = PLOT_WIDTH / len(counts)
    drawn = []
    for i, count in enumerate(counts.tolist()):
        height = PLOT_HEIGHT * count / largest
        first, last = int(edges[i]), int(edges[i + 1]) - 1
        sizes = f"size {first:,}" if first == last else f"sizes {first:,} to {last:,}"
        drawn.append(
            Bin(
                round(i * step, 2),
                round(PLOT_HEIGHT - height, 2),
                round(max(step - 1.5, 0.5), 2),
                round(height, 2),
                f"{count:,} clusters of {sizes}",
            )
        )
    return Histogram(drawn, low, int(edges[-1]) - 1, largest)


def curve(values: Sequence[float]) -> Curve | None:
    """Return the line through values, one per iteration; None for fewer than two."""
    if len(values) < 2:
        return None
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = PLOT_WIDTH / (len(values) - 1)
    points = [(i * step, PLOT_HEIGHT * (1 - (v - low) / span)) for i, v in enumerate(values)]
    return Curve(_format_points(points), values[0], values[-1], low, high, len(values))
