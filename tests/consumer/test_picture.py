"""The picture by age: bars as high as the figures, one axis for both models, whiskers that are the interval's."""

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from consumer.picture import AFTER, BEFORE, BOTTOM, TOP, drawn

SVG = "{http://www.w3.org/2000/svg}"
AGE = {"n": 10, "before": 0.01, "after": 0.015, "ci95": [0.002, 0.008]}
NONE = {"n": 0, "before": 0.0, "after": 0.0, "ci95": [0.0, 0.0]}


def heights(root: ElementTree.Element, colour: str) -> list[float]:
    """Return the heights of all bars of a colour; what has a width of 10 is the legend's."""
    rows = [one for one in root.iter(f"{SVG}rect") if one.get("fill") == colour and one.get("width") == "20"]
    return [float(one.attrib["height"]) for one in rows]


def test_bars_and_whiskers_are_the_figures() -> None:
    ages: dict[str, Any] = {"0": NONE, "1-4": AGE}
    blend = {"0": NONE, "1-4": {**AGE, "before": 0.1, "after": 0.05, "ci95": [-0.08, -0.02]}}
    root = ElementTree.fromstring(drawn({"text_alone": ages, "blend": blend}))
    full = BOTTOM - TOP
    # The axes end at .02 and .12: the next step above the highest figure or whisker.
    expected = [0, 0.01 / 0.02 * full, 0, 0.1 / 0.12 * full]
    assert heights(root, BEFORE) == pytest.approx(expected, abs=0.1)
    assert heights(root, AFTER) == pytest.approx([0, 0.015 / 0.02 * full, 0, 0.05 / 0.12 * full], abs=0.1)
    whiskers = [one.attrib["d"] for one in root.iter(f"{SVG}path")]
    assert len(whiskers) == 2  # none where there are no targets
    low, high = (float(part) for part in whiskers[0].split("M")[1].split(" ")[1].split("V"))
    assert (BOTTOM - low) / full == pytest.approx((0.01 + 0.002) / 0.02, abs=0.01)
    assert (BOTTOM - high) / full == pytest.approx((0.01 + 0.008) / 0.02, abs=0.01)
