"""Figures in words, for page and paper alike."""

from __future__ import annotations

from collections.abc import Collection

DECIMALS = 3  # at most, of a per cent


def percent(value: float, beside: Collection[float] = ()) -> str:
    """A share in [0, 1] as a whole per cent; never 0 or 100 for what is not certain.

    beside: shares that it is compared with where it stands. It gets as many decimals as tell it
    from each that is another one: "below 9 %" is no answer for 9 %.
    """
    others = [other for other in beside if other != value]
    for decimals in range(DECIMALS):
        said = _rounded(value, decimals)
        if all(_rounded(other, decimals) != said for other in others):
            return said
    return _rounded(value, DECIMALS)


def _rounded(value: float, decimals: int) -> str:
    least = 10.0**-decimals
    if 0 < value <= least / 200:  # which rounds half to even: to 0
        return f"<{least:.{decimals}f} %"
    if 1 - least / 200 <= value < 1:
        return f">{100 - least:.{decimals}f} %"
    return f"{100 * value:.{decimals}f} %"
