"""Draws what the gate found by age of the item: NDCG@10 before and after, by text alone and by everything."""

from collections.abc import Mapping
from typing import Any

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 420, 300, 58, 40, 232
BEFORE, AFTER = "#8a94a6", "#1f6feb"
PANELS = {"text_alone": "ranked by text alone", "blend": "ranked by everything"}


def drawn(by_age: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return an SVG with a panel for each of `PANELS`; `by_age` is the report's, as JSON has it.

    Both models have the same bins and the same axis, which begins at 0. The whisker is the 95% interval of the paired
    difference, drawn from the top of the bar before: where it leaves that height out, the two differ.
    """
    parts = [_panel(title, by_age[name], at * WIDTH) for at, (name, title) in enumerate(PANELS.items())]
    width = WIDTH * len(PANELS)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="11">\n<rect width="{width}" height="{HEIGHT}" fill="white"/>\n'
        + "".join(parts)
        + _legend(width)
        + "</svg>\n"
    )


def _panel(title: str, ages: Mapping[str, Mapping[str, Any]], x: int) -> str:
    tops = [max(one["before"], one["after"], one["before"] + one["ci95"][1]) for one in ages.values()]
    scale = _scale(max(tops))
    parts = [_text(x + WIDTH / 2 + 20, 22, f"NDCG@10, {title}", size=13)]
    for tick in range(5):
        y, value = _y(scale * tick / 4, scale), scale * tick / 4
        parts.append(f'<line x1="{x + LEFT}" y1="{y:.1f}" x2="{x + WIDTH - 8}" y2="{y:.1f}" stroke="#dddddd"/>\n')
        parts.append(_text(x + LEFT - 6, y + 4, f"{value:.3f}", anchor="end"))
    step = (WIDTH - LEFT - 8) / len(ages)
    for number, (name, one) in enumerate(ages.items()):
        middle = x + LEFT + step * (number + 0.5)
        parts.append(_bar(middle - 21, one["before"], scale, BEFORE) + _bar(middle + 1, one["after"], scale, AFTER))
        if one["n"]:
            low, high = (_y(max(0.0, one["before"] + end), scale) for end in one["ci95"])
            at = middle + 11
            ends = "".join(f"M{at - 4:.1f} {y:.1f}h8" for y in (low, high))
            parts.append(f'<path d="M{at:.1f} {low:.1f}V{high:.1f}{ends}" stroke="black" fill="none"/>\n')
        parts.append(_text(middle, BOTTOM + 16, name) + _text(middle, BOTTOM + 30, f"n={one['n']:,}", fill="#666666"))
    return "".join(parts)


def _legend(width: int) -> str:
    y = HEIGHT - 14
    said = (("before: the model that serves", BEFORE, LEFT), ("after: the candidate", AFTER, LEFT + 190))
    return "".join(
        f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{colour}"/>\n' + _text(x + 16, y, text, anchor="start")
        for text, colour, x in said
    ) + _text(width - 8, y, "engagements of the item until then; whisker: 95% of the paired difference", anchor="end")


def _bar(x: float, value: float, scale: float, colour: str) -> str:
    y = _y(value, scale)
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="20" height="{BOTTOM - y:.1f}" fill="{colour}"/>\n'


def _text(x: float, y: float, text: str, anchor: str = "middle", size: int = 11, fill: str = "black") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{fill}">{text}</text>\n'


def _y(value: float, scale: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * value / scale


def _scale(highest: float) -> float:
    """Return the end of an axis: the next multiple of .004 or, for larger values, of .04."""
    unit = 0.004 if highest < 0.04 else 0.04
    return unit * max(1, -(-highest // unit))
