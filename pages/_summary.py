"""All studies on Diagnose at one glance: their tally, their list, and the height it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from core.notes import is_caution
from core.types import Finding
from pages import _reading
from pages._correct import Study
from pages._rows import Column, Row, finding, height_of, rows
from pages._theme import style

ROWS_SHOWN, ROWS_LOW = 4, 2
LOW_SCREEN = 820  # pixels; on one as low the list has ROWS_LOW rows, and the page no heading
HEADING = 40
LIST_PARTS = ("", ".stBidiComponent", ".stBidiComponent > div:last-child")  # each has its height
# Pixels that are not the picture's, with one study and a list; below it what is to be known of the
# heatmap is seen.
ONE_ABOVE, MANY_ABOVE = 369, 458
STRIP = 40  # and where a study has several views
COLUMNS = (
    Column("Study"),
    Column("Views", "number", 4),
    Column("Body part", width=9),
    Column("Finding", "finding", 9),
    Column("Probability", "share", 10),
    Column("Note"),
)


def table(
    studies: Sequence[Study], current: str, on_open: Callable[[Study], None] | None = None
) -> None:
    """The list. current: key of the study that is looked at. on_open: None opens none of them."""
    by_key = {study.key: study for study in studies}
    rows(
        COLUMNS,
        [_row(study) for study in studies],
        key="summary",
        label="Studies",
        opens="Study",
        on_open=(lambda key: on_open(by_key[key])) if on_open else None,
        current=current,
        most=ROWS_SHOWN,
    )


def tally(findings: Sequence[Finding | None]) -> str:
    """How many studies of each finding, the most urgent first."""
    counts = Counter(findings)
    words = [
        f"{_reading.badge(finding)}&nbsp;<b>{counts[finding]}</b>"
        for finding in (*_reading.WORDS, None)
        if counts[finding]
    ]
    return f"<span class='tallies'>{''.join(f'<span>{w}</span>' for w in words)}</span>"


def above(studies: int, views: int) -> None:
    """What height is left to the picture below the list, which is lower on a low screen."""
    strip = STRIP if views > 1 else 0
    high = low = ONE_ABOVE + strip
    of_list = ""
    if studies > 1:
        high, low = (height_of(studies, most) for most in (ROWS_SHOWN, ROWS_LOW))
        parts = ", ".join(f".st-key-summary {inner}" for inner in LIST_PARTS)
        of_list = (
            f"{parts} {{ height: {low}px !important; }} "
            f".st-key-summary {{ flex: none !important; --most: {low}px; }} "
        )
        high, low = (MANY_ABOVE + strip + height for height in (high, low))
    style(
        f".st-key-picture {{ --above: {high}px; }} "
        f"@media (max-height: {LOW_SCREEN}px) {{ {of_list}"
        f".st-key-picture {{ --above: {low - HEADING}px; }} }}"
    )


def _row(study: Study) -> Row:
    """One line of the list."""
    result = study.result
    part = result.body_part.words.capitalize() if result.body_part else ""
    chosen = any(view.chosen for view in result.counted)
    none = "Not assessed yet" if study.awaited == len(study.sources) else "Not assessed"
    one = len(study.sources) == 1
    refused = next((v.reason for v in result.views if v.reason), "") or ""
    cells = (
        study.name,
        len(study.sources),
        f"{part} (chosen)" if chosen else part,
        finding(result.finding, none),
        None if result.probability is None else 100 * result.probability,
        "" if study.awaited else (one and refused) or " ".join(filter(is_caution, result.notes)),
    )
    return Row(study.key, cells)
