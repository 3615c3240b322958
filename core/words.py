"""Figures and names of files in words, for page and paper alike."""

from __future__ import annotations

import os
import re
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


def printable(name: str) -> str:
    """A name whose bytes are no UTF-8 has its odd bytes written out."""
    return name.encode("utf-8", "backslashreplace").decode()


def on_disk(label: str) -> str:
    """The path on this computer that ``printable`` wrote as this label."""
    if os.path.lexists(label):  # a file may be called what looks like an odd byte
        return label
    return re.sub(r"\\u(dc[89a-f][0-9a-f])", lambda odd: chr(int(odd[1], 16)), label)
