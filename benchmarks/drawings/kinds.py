"""The kinds of graphics. Each function draws one; the generator decides its shapes, not its colours."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

from benchmarks.drawings.canvas import ROUND, Canvas, Palette, words

Draw = Callable[[Canvas, Random, Palette], None]


def sign(canvas: Canvas, rng: Random, colours: Palette) -> None:
    """Draw a road sign: rims around a symbol."""
    corners, turn = rng.choice([3, 4, 8, ROUND]), rng.choice([0, 45, 90])
    for radius, fill in ((0.48, colours.panel), (0.4, colours.accent), (0.33, colours.ground)):
        canvas.shape(0.5, 0.5, radius, fill, corners, turn)
    canvas.text(0.5, 0.46, words(rng, 1), 0.1, colours.ink)
    canvas.text(0.5, 0.6, colours.symbol, 0.12, colours.ink)


def flag(canvas: Canvas, rng: Random, colours: Palette) -> None:
    """Draw a flag of bands, with a shape and a symbol on it."""
    upright, fills = rng.random() < 0.5, [colours.accent, colours.ground, colours.panel]
    fills += [colours.ground, colours.ink][: rng.randint(0, 2)]
    for number, fill in enumerate(fills):
        low, high = number / len(fills), (number + 1) / len(fills)
        left, top, right, bottom = (low, 0.0, high, 1.0) if upright else (0.0, low, 1.0, high)
        canvas.box(left, top, right, bottom, fill)
    canvas.shape(0.4, 0.5, rng.uniform(0.15, 0.25), colours.ink, rng.choice([3, 5, ROUND]))
    for number in range(5):
        canvas.shape(0.75 + rng.uniform(-0.1, 0.1), 0.1 + 0.2 * number, 0.05, colours.ink, 5)
    canvas.text(0.4, 0.5, colours.symbol, 0.11, colours.ground)


def logo(canvas: Canvas, rng: Random, colours: Palette) -> None:
    """Draw a logo: rings, a sector and a name."""
    for radius, fill in ((0.36, colours.panel), (0.27, colours.ground), (0.2, colours.accent)):
        canvas.shape(0.5, 0.42, radius, fill)
    start = rng.uniform(0, 360)
    canvas.slice(0.5, 0.42, 0.36, (start, start + 50), colours.ink)
    canvas.text(0.5, 0.9, words(rng, 2), 0.1, colours.ink)
    canvas.text(0.5, 0.42, colours.symbol, 0.12, colours.ground)


def bar_chart(canvas: Canvas, rng: Random, colours: Palette) -> None:
    """Draw two series of bars with axes and a title."""
    count = rng.randint(4, 8)
    for number in range(count):
        for series, fill in enumerate((colours.panel, colours.accent)):
            left = 0.13 + 0.8 * (number + series * 0.4) / count
            canvas.box(left, rng.uniform(0.2, 0.8), left + 0.28 / count, 0.88, fill)
    canvas.line([(0.1, 0.15), (0.1, 0.88), (0.95, 0.88)], colours.ink)
    canvas.text(0.45, 0.07, words(rng, 2), 0.07, colours.ink)
    canvas.text(0.9, 0.07, colours.symbol, 0.1, colours.ink)


def pie_chart(canvas: Canvas, rng: Random, colours: Palette) -> None:
    """Draw the slices of a pie, one of which stands out, with a title."""
    start = rng.uniform(0, 360)
    cuts = [start, *(start + 60 * n + rng.uniform(-25, 25) for n in range(1, 6)), start + 360]
    fills = [colours.accent, colours.panel, colours.ink] * 2
    for (low, high), fill in zip(pairwise(cuts), fills, strict=True):
        canvas.slice(0.5, 0.55, 0.38, (low, high), fill)
    canvas.text(0.5, 0.08, words(rng, 2), 0.09, colours.ink)
    canvas.text(0.1, 0.9, colours.symbol, 0.12, colours.ink)


def country_map(canvas: Canvas, rng: Random, colours: Palette) -> None:
    """Draw a map: regions with borders, two of which stand out, and a town."""
    columns, rows = rng.randint(3, 5), rng.randint(3, 4)

    def corner(column: int, row: int) -> tuple[float, float]:
        return (column + rng.uniform(-0.3, 0.3)) / columns, (row + rng.uniform(-0.3, 0.3)) / rows

    corners = {(c, r): corner(c, r) for c in range(columns + 1) for r in range(rows + 1)}
    places = [(c, r) for c in range(columns) for r in range(rows)]
    emphasised = rng.sample(places, 2)
    for c, r in places:
        region = [corners[c, r], corners[c + 1, r], corners[c + 1, r + 1], corners[c, r + 1]]
        fill = rng.choice([colours.panel, colours.ground])
        canvas.area(region, colours.accent if (c, r) in emphasised else fill)
        canvas.line([*region, region[0]], colours.ink)
    canvas.shape(0.5, 0.5, 0.07, colours.ground)
    canvas.text(0.5, 0.5, colours.symbol, 0.12, colours.ink)


def icon(canvas: Canvas, rng: Random, colours: Palette) -> None:
    """Draw an icon: a plate, a shape, and a badge with a symbol."""
    canvas.plate((0.08, 0.08, 0.92, 0.92), colours.panel, colours.ink)
    canvas.shape(0.45, 0.57, 0.26, colours.ink, rng.randint(3, 8), rng.uniform(0, 90))
    canvas.shape(0.74, 0.26, 0.13, colours.accent)
    canvas.text(0.74, 0.26, colours.symbol, 0.12, colours.ground)


def screenshot(canvas: Canvas, rng: Random, colours: Palette) -> None:
    """Draw a page: a bar with a title, lines of text, and a button."""
    canvas.box(0, 0, 1, 0.12, colours.panel)
    canvas.text(0.5, 0.06, words(rng, 2), 0.07, colours.ink)
    for number in range(8):
        fill = colours.accent if rng.random() < 0.3 else colours.ink
        canvas.text(0.5, 0.2 + number * 0.075, words(rng, 4), 0.055, fill)
    canvas.plate((0.55, 0.82, 0.95, 0.97), colours.accent, colours.ink)
    canvas.text(0.75, 0.895, colours.symbol, 0.1, colours.ground)


def code(canvas: Canvas, rng: Random, colours: Palette) -> None:
    """Draw a code of square modules with three eyes and a plate in the middle."""
    count = rng.choice([15, 21, 25])

    def modules(left: int, top: int, side: int) -> tuple[float, float, float, float]:
        low, high = 0.05, 0.9 / count
        return (
            low + left * high,
            low + top * high,
            low + (left + side) * high,
            low + (top + side) * high,
        )

    for left in range(count):
        for top in range(count):
            if rng.random() < 0.5:
                canvas.box(*modules(left, top, 1), colours.ink)
    for left, top in ((0, 0), (0, count - 7), (count - 7, 0)):
        for inset, fill in enumerate((colours.ink, colours.ground, colours.accent)):
            canvas.box(*modules(left + inset, top + inset, 7 - 2 * inset), fill)
    canvas.box(0.42, 0.42, 0.58, 0.58, colours.panel)
    canvas.text(0.5, 0.5, colours.symbol, 0.12, colours.ground)


def playing_card(canvas: Canvas, rng: Random, colours: Palette) -> None:
    """Draw a card: pips of one shape, and its value in two corners."""
    canvas.plate((0.04, 0.04, 0.96, 0.96), colours.ground, colours.panel)
    corners, turn = rng.choice([3, 4, 5, ROUND]), rng.choice([0, 45, 180])
    places = [(x, y) for x in (0.3, 0.5, 0.7) for y in (0.22, 0.41, 0.59, 0.78)]
    for x, y in rng.sample(places, rng.randint(4, 10)):
        canvas.shape(x, y, 0.08, colours.accent, corners, turn)
    for x, y in ((0.14, 0.14), (0.86, 0.86)):
        canvas.text(x, y, colours.symbol, 0.12, colours.ink)


def traffic_light(canvas: Canvas, rng: Random, colours: Palette) -> None:
    """Draw a traffic light in front of houses; one lamp is lit."""
    for number in range(6):
        canvas.box(number / 6, rng.uniform(0.3, 0.7), (number + 0.9) / 6, 1, colours.panel)
    canvas.box(0.35, 0.06, 0.65, 0.86, colours.ink)
    lit = rng.randrange(3)
    for lamp in range(3):
        canvas.shape(0.5, 0.2 + lamp * 0.26, 0.11, colours.accent if lamp == lit else colours.panel)
    canvas.text(0.85, 0.1, colours.symbol, 0.12, colours.ink)


def album_cover(canvas: Canvas, rng: Random, colours: Palette) -> None:
    """Draw a cover of one template: a shaded ground, a disc, and a band with a title."""
    for step in range(64):
        red, green, blue = (
            round(a + (b - a) * step / 63)
            for a, b in zip(colours.panel, colours.ground, strict=True)
        )
        canvas.box(0, step / 64, 1, (step + 1) / 64, (red, green, blue))
    canvas.shape(rng.uniform(0.3, 0.7), 0.38, rng.uniform(0.15, 0.3), colours.accent)
    canvas.box(0, 0.72, 1, 0.9, colours.ink)
    canvas.text(0.5, 0.81, words(rng, 2), 0.11, colours.ground)
    canvas.text(0.4, 0.09, words(rng, 2), 0.09, colours.ink)
    canvas.text(0.92, 0.09, colours.symbol, 0.12, colours.ink)


def chequer_board(canvas: Canvas, rng: Random, colours: Palette) -> None:
    """Draw a board of fields with pieces of two colours."""
    count = rng.randint(5, 8)
    fields = [(c, r) for c in range(count) for r in range(count)]
    for c, r in fields:
        fill = colours.ink if (c + r) % 2 else colours.ground
        canvas.box(c / count, r / count, (c + 1) / count, (r + 1) / count, fill)
    for number, (c, r) in enumerate(rng.sample(fields[1:], count + 2)):
        fill = colours.panel if number % 2 else colours.accent
        canvas.shape((c + 0.5) / count, (r + 0.5) / count, 0.36 / count, fill)
    canvas.text(0.5 / count, 0.5 / count, colours.symbol, 0.7 / count, colours.ink)


def transit_plan(canvas: Canvas, rng: Random, colours: Palette) -> None:
    """Draw a plan of three lines with their stations."""
    for fill in (colours.panel, colours.ink, colours.accent):
        stops = [(0.06 + 0.22 * n, rng.uniform(0.15, 0.9)) for n in range(5)]
        canvas.line(stops, fill, 0.03)
        for x, y in stops:
            canvas.shape(x, y, 0.03, fill)
            canvas.shape(x, y, 0.018, colours.ground)
    canvas.text(0.5, 0.07, colours.symbol, 0.12, colours.ink)


def face(canvas: Canvas, rng: Random, colours: Palette) -> None:
    """Draw a face with eyes, a mouth and a badge."""
    canvas.shape(0.5, 0.5, 0.42, colours.ink)
    canvas.shape(0.5, 0.5, 0.4, colours.panel)
    for side in (-1, 1):
        canvas.shape(0.5 + side * rng.uniform(0.12, 0.18), 0.42, 0.06, colours.ink)
    canvas.slice(0.5, 0.58, 0.2, (rng.uniform(0, 40), rng.uniform(140, 180)), colours.accent)
    canvas.shape(0.88, 0.12, 0.1, colours.accent)
    canvas.text(0.88, 0.12, colours.symbol, 0.12, colours.ground)


def label(canvas: Canvas, rng: Random, colours: Palette) -> None:
    """Draw a label with a coloured heading, a bar code and a number."""
    canvas.box(0, 0, 1, 0.25, colours.accent)
    canvas.text(0.5, 0.12, words(rng, 2), 0.12, colours.ground)
    left = 0.1
    while left < 0.9:
        width = rng.choice([0.01, 0.02, 0.03])
        canvas.box(left, 0.32, left + width, 0.75, colours.ink)
        left += width + rng.choice([0.015, 0.025, 0.04])
    canvas.box(0.1, 0.8, 0.5, 0.94, colours.panel)
    canvas.text(0.8, 0.87, colours.symbol, 0.14, colours.ink)


KINDS: dict[str, Draw] = {
    "sign": sign,
    "flag": flag,
    "logo": logo,
    "bar chart": bar_chart,
    "pie chart": pie_chart,
    "map": country_map,
    "icon": icon,
    "screenshot": screenshot,
    "code": code,
    "playing card": playing_card,
    "traffic light": traffic_light,
    "album cover": album_cover,
    "chequer board": chequer_board,
    "transit plan": transit_plan,
    "face": face,
    "label": label,
}
