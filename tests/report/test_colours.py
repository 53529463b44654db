"""The page's colours can be told from what they lie on, in the light, in the dark and on paper."""

import re
from pathlib import Path

import pytest

import contrastill.report

CSS = (Path(contrastill.report.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
SCHEMES = [
    dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{3,6})", block)) for block in re.findall(r":root \{(.*?)\}", CSS, re.S)
]


def luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    parts = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    """As WCAG 2 defines it."""
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_there_are_three_schemes_with_the_same_colours() -> None:
    assert len(SCHEMES) == 3
    assert SCHEMES[0].keys() == SCHEMES[1].keys() == SCHEMES[2].keys()
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("scheme", SCHEMES, ids=["light", "dark", "paper"])
def test_letters_have_a_contrast_of_four_and_a_half(scheme: dict[str, str]) -> None:
    for ink in ("ink", "muted", "accent", "good", "bad"):
        for ground in ("card", "back"):
            assert contrast(scheme[ink], scheme[ground]) >= 4.5, (ink, ground)
    assert contrast(scheme["ink"], scheme["warn"]) >= 4.5


@pytest.mark.parametrize("scheme", SCHEMES, ids=["light", "dark", "paper"])
def test_curves_have_a_contrast_of_three(scheme: dict[str, str]) -> None:
    for n in range(8):
        assert contrast(scheme[f"c{n}"], scheme["card"]) >= 3
