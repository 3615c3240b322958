"""Figures in words, for page and paper alike."""

from __future__ import annotations


def percent(value: float) -> str:
    """A share in [0, 1] as a whole per cent; never 0 or 100 for what is not certain."""
    if 0 < value <= 0.005:  # which rounds half to even: to 0
        return "<1 %"
    if 0.995 <= value < 1:
        return ">99 %"
    return f"{100 * value:.0f} %"
