"""Numbers as a reader wants to see them."""

from __future__ import annotations

import math


def number(value: float, digits: int = 3) -> str:
    """`value` with so many significant digits, trailing zeros kept; empty for NaN."""
    if math.isnan(value):
        return ""
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{decimals(value, digits)}f}"


def decimals(value: float, digits: int = 3) -> int:
    """How many decimals show `value` with so many significant digits."""
    if value == 0 or not math.isfinite(value):
        return 0
    # Rounding comes first: .0999996 is shown as .100, which has a digit fewer to show.
    exponent = int(f"{abs(value):.{digits - 1}e}".split("e")[1])
    return max(0, digits - 1 - exponent)


def counted(count: int, what: str) -> str:
    """Text such as "1 problem" or "2 problems"."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def interval(low: float, high: float) -> str:
    """Text such as "[0.1, 0.2]"; empty where either end is undefined."""
    if math.isnan(low) or math.isnan(high):
        return ""
    return f"[{number(low)}, {number(high)}]"


def judged(verdict: str, reason: str) -> str:
    """Text such as "unchecked (2 of at least 20 runs)"."""
    return f"{verdict} ({reason})" if reason else verdict


def measured(mean: float, half_width: float) -> str:
    """Text such as "0.245 ± 0.012", with as many decimals for both, or "3.20e-13 ± 1.0e-14"."""
    if not math.isfinite(half_width) or not math.isfinite(mean):
        return number(mean)
    if mean and not 1e-4 <= abs(mean) < 1e6:
        return f"{number(mean)} ± {half_width:.1e}"
    places = decimals(mean)
    # At least one significant digit of the uncertainty.
    if half_width > 0:
        places = max(places, min(decimals(half_width, 1), places + 2))
    return f"{mean:.{places}f} ± {half_width:.{places}f}"
