"""Bounds on what was measured of a pair."""

from __future__ import annotations

import numpy as np
import pytest

from curation.stages.dedup.agreement import MEASURED, agrees
from curation.stages.dedup.params import Semantic, Verify

SAME = dict.fromkeys(("agreement", "worst", "steady", "inside", "detail_shape"), 1.0)
SAME |= dict.fromkeys(("hue", "flat", "colour", "drawn", "detail_colour"), 0.0)
GRAPHIC = {"drawn": 0.9, "flat": 0.8}
PARTLY = {"drawn": 0.6}
NULL = float("nan")


@pytest.mark.parametrize(
    ("measured", "copy"),
    [
        ({}, True),
        ({"colour": 14.9}, True),
        ({"colour": 15.5}, False),
        ({"hue": 13.0}, False),
        (GRAPHIC, True),
        (GRAPHIC | {"colour": 4.9}, True),
        (GRAPHIC | {"colour": 5.1}, False),
        (GRAPHIC | {"detail_colour": 4.9}, True),
        (GRAPHIC | {"detail_colour": 5.1}, False),
        (GRAPHIC | {"detail_shape": 0.81}, True),
        (GRAPHIC | {"detail_shape": 0.79}, False),
        (PARTLY | {"colour": 9.9, "detail_colour": 9.9, "detail_shape": 0.61}, True),
        (PARTLY | {"colour": 10.1}, False),
        (PARTLY | {"detail_colour": 10.1}, False),
        (PARTLY | {"detail_shape": 0.59}, False),
        ({"drawn": 0.5, "colour": 14.9, "detail_colour": 14.9, "detail_shape": 0.41}, True),
        ({"drawn": 0.5, "detail_colour": 15.1}, False),
        ({"drawn": 0.5, "detail_shape": 0.39}, False),
        ({"colour": NULL, "drawn": NULL, "detail_colour": NULL, "detail_shape": NULL}, True),
        ({"drawn": 0.9, "detail_colour": NULL, "detail_shape": NULL}, True),
        ({"agreement": 0.5, "colour": NULL, "drawn": NULL}, False),
    ],
)
def test_details_count_in_graphics_and_nothing_that_was_not_measured(
    measured: dict[str, float], copy: bool
) -> None:
    columns = {name: np.array([value], np.float32) for name, value in (SAME | measured).items()}
    assert set(columns) == set(MEASURED)
    assert agrees(columns, Verify()).tolist() == [copy]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("flat", [0.0, 0.9])
@pytest.mark.parametrize("bound", [n / 20 for n in range(21)])
def test_a_measure_that_is_exactly_a_bound_is_within_it(
    flat: float, bound: float, kind: type[np.floating]
) -> None:
    """As 19 of 20 blocks are at 0.95, which is less as a number of 32 bits."""
    names = ("agreement", "flat_agreement", "steady", "inside", "hue", "colour", "detail_colour")
    bounds = Verify.model_validate(dict.fromkeys((*names, "detail_shape"), bound))
    at_bound = dict.fromkeys(("agreement", "worst", "steady", "inside", "hue"), bound)
    columns = {n: np.array([v], kind) for n, v in (SAME | {"flat": flat} | at_bound).items()}
    assert agrees(columns, bounds).tolist() == [True]
    for name in ("agreement", "steady", "inside"):
        less = np.nextafter(columns[name].astype(np.float32), np.float32(-1))
        assert agrees(columns | {name: less}, bounds).tolist() == [False]


@pytest.mark.parametrize("hundredths", range(1, 100))
def test_an_epsilon_may_be_just_at_the_floor(hundredths: int) -> None:
    """1 - 0.07 is 0.9299999999999999, which is less than a floor of 0.93."""
    floor = (100 - hundredths) / 100
    assert Semantic(epsilon=hundredths / 100, floor=floor).at_least == floor
    with pytest.raises(ValueError, match="under floor"):
        Semantic(epsilon=hundredths / 100 + 0.001, floor=floor)


def test_bounds_can_be_lifted() -> None:
    other = SAME | GRAPHIC | {"colour": 80.0, "detail_colour": 90.0, "detail_shape": -1.0}
    columns = {name: np.array([value], np.float32) for name, value in other.items()}
    lifted = Verify(colour=1000, detail_colour=1000, detail_shape=-1)
    assert agrees(columns, lifted).tolist() == [True]
    assert agrees(columns, Verify()).tolist() == [False]


@pytest.mark.parametrize("drawn", [0.3, 0.5])
def test_images_count_as_graphics_from_any_share_on(drawn: float) -> None:
    measured = SAME | {"drawn": drawn, "detail_colour": 6.0}
    columns = {name: np.array([value], np.float32) for name, value in measured.items()}
    assert agrees(columns, Verify(drawn=drawn)).tolist() == [False]
    assert agrees(columns, Verify(drawn=0.9)).tolist() == [True]
