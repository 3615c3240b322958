"""The report on paper: A4, one page for a study of up to four views.

Set in DejaVu Sans, which comes with matplotlib: it has the letters of most names. What it has not
is printed as a replacement mark, and what is not printed at all (control and direction marks) is
left out, so that a hostile name stays a name.
"""

from __future__ import annotations

import importlib.util
import unicodedata
from datetime import UTC
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from fpdf import FPDF
from fpdf.enums import XPos, YPos
from fpdf.fonts import FontFace, TTFFont
from numpy.typing import NDArray

from core.display import to_8_bit
from core.explain import on_picture, overlay
from core.focus import inside
from core.manifest import Release
from core.notes import is_caution, points_of, probability_of
from core.operating import Performance, counted_as, photographed, predictive_value, zones
from core.report.record import (
    GONE,
    LIMITS,
    SUPERSEDED,
    Decision,
    Reassessed,
    StudyReport,
    another_release,
    how_found,
)
from core.study import SIDES, Mark, named
from core.types import WHOLE, BodyPart, ImageResult, Radiograph
from core.words import percent

FONT = "DejaVu"
PICTURE_SIDE = 1000  # pixels
OPACITY = 0.5
COLUMNS = 4
GAP = 3.0  # mm
LONGEST = 80  # characters of a name
REPLACEMENT = "\ufffd"
GREY = (90, 90, 90)
SEEN = (150, 150, 150)  # BGR
MARK = (255, 208, 127)  # BGR; the colour of marks in the viewer
VERBS = {True: "agrees", False: "disagrees", None: "asks for a second look"}


def pdf(report: StudyReport) -> bytes:
    """The report as a PDF file."""
    paper = _Paper(report)
    paper.heading()
    paper.pictures()
    paper.results()
    paper.reading()
    for asked in report.reassessed:
        paper.reassessed(asked)
    for decision in report.decisions:
        paper.decision(decision)
    paper.provenance()
    return bytes(paper.output())


class _Paper(FPDF):
    """The sheet, written from top to bottom."""

    def __init__(self, report: StudyReport) -> None:
        super().__init__(format="A4")
        self._report = report
        for style, file in (("", "DejaVuSans.ttf"), ("B", "DejaVuSans-Bold.ttf")):
            self.add_font(FONT, style, _fonts() / file)
        font = self.fonts[FONT.lower()]
        assert isinstance(font, TTFFont)
        self._letters = frozenset(font.cmap)
        self.set_margin(15)
        self.set_auto_page_break(True, 16)
        self.set_creation_date(report.created)
        self.set_title("Radiograph study")
        self.set_lang("en")
        self.add_page()

    def footer(self) -> None:
        """On every page: what this is, and who says so."""
        self.set_y(-12)
        self.set_font(FONT, size=7)
        self.set_text_color(*GREY)
        release = self._safe(self._report.assessed_by[0])
        said = f"Release {release} · Research use only, not a medical device"
        self.cell(0, 5, f"{said} · page {self.page_no()} of {{nb}}", align="C")

    def heading(self) -> None:
        """Whose it is, then body part, finding and probability, in one glance."""
        study = self._report.study
        part = named(study).capitalize() if study.body_part else "Body part not assessed"
        created = self._report.created.astimezone(UTC)
        title, first = "Radiograph study", study.views[0].sha256
        if first and not self._report.names:  # else nothing tells one patient's from another's
            title += f" · view 1: SHA-256 {first[:12]}…"
        self._line(title, 8, GREY, f"{created:%Y-%m-%d %H:%M} UTC")
        if self._report.names:
            self._line(_shortened(study.id), 8)
        else:
            self.ln(2)
            self._line(f"Patient {'_' * 40}   Reader {'_' * 36}", 9)
            self.ln(2)
        if self._report.superseded_by:
            self._line(SUPERSEDED, 11, style="B")
        self._line(part, 11)
        if study.finding is None or study.probability is None:
            self._line("Finding: NOT ASSESSED", 15, style="B")
        else:
            share = self._share(study.probability, study.body_part)
            self._line(
                f"Finding: {study.finding.words.upper()} · probability {share}", 15, style="B"
            )
            self._line(self._stands(study.probability), 9)
        for note in filter(is_caution, study.notes):
            self.ln(0.8)
            self._line(note, 9, border="L")
        for note in study.notes:
            if not is_caution(note):
                self._text(note)
        self.ln(2)

    def _stands(self, probability: float) -> str:
        """The thresholds that the study's probability stands beside, and what it is."""
        release, part = self._report.release, self._report.study.body_part
        starts = zones(points_of(release, part), probability) if release and part else ""
        views = len(self._report.study.counted)
        mean = f", mean of {views} views" if views > 1 else ""
        return f"{starts}{'; ' * bool(starts)}calibrated{mean}"

    def pictures(self) -> None:
        """Each view without and with its heatmap: one view side by side, more above each other."""
        shown = [n for n, r in enumerate(self._report.radiographs) if r is not None]
        if len(shown) == 1:
            self._row([(shown[0], False), (shown[0], True)], 92)
            return
        height = 58 if len(shown) <= COLUMNS else 50
        for start in range(0, len(shown), COLUMNS):
            row = shown[start : start + COLUMNS]
            self._row([(n, False) for n in row], height)
            self._row([(n, True) for n in row], height)

    def results(self) -> None:
        """A line for each view."""
        head = ("View", "Body part (how sure)", "Finding", "Probability of the finding")
        self.set_font(FONT, size=8)
        self.set_text_color(0, 0, 0)
        bold = FontFace(emphasis="BOLD")
        with self.table(
            col_widths=(36, 56, 40, 48),
            headings_style=bold,
            borders_layout="HORIZONTAL_LINES",
            line_height=4.4,
            text_align="LEFT",
        ) as table:
            table.row([*head])
            for n, view in enumerate(self._report.study.views):
                table.row([self._safe(cell) for cell in self._cells(n, view)])
        self.ln(2)

    def reading(self) -> None:
        """What the probability and the operating point mean."""
        report = self._report
        if report.study.body_part is None:
            return
        meant = report.label_means or "not recorded"
        self._text(f"In the training data a positive label meant “{meant}”.")
        if report.release is None:
            self._text(GONE)
            return
        if any(view.photograph for view in report.study.views):
            self._text(_photographed(report.release))
        found, probability = report.performance, report.study.probability
        if found is None or probability is None:
            self._text("The release has no operating point of this name for this body part.")
            return
        rule = counted_as(found.point, probability, report.study.finding)
        self._text(f"{rule} {_performance(found)}")
        if report.prevalence is not None:
            name, value = predictive_value(found, probability, report.prevalence)
            at = f"at a prevalence of {percent(report.prevalence)}"
            self._text(f"{name}: {value or 'not defined'}, {at}.")

    def reassessed(self, asked: Reassessed) -> None:
        """What the model of the part that a reader named says, beside the first result."""
        study, release = asked.study, asked.release
        if study.finding is None or study.probability is None:
            return
        views = "; ".join(
            f"view {n + 1} {probability_of(v.fracture.probability, release, v.part)}"
            for n, v in enumerate(study.views)
            if v.fracture is not None
        )
        by = study.views[0]
        other = another_release(by.release, by.release_sha256, *self._report.assessed_by)
        self._text(
            f"Assessed as {study.body_part}, as named by a reader{f', {other}' * bool(other)}: "
            f"finding {study.finding.words}, probability "
            f"{probability_of(study.probability, release, study.body_part)} ({views})."
        )
        for note in study.notes:
            if note not in self._report.study.notes:
                self._text(note)

    def decision(self, decision: Decision) -> None:
        """What the reader decided, in the reader's words."""
        self.ln(1)
        decided = f"{decision.decided.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        self._line(f"Reader {VERBS[decision.agrees]}: {_shortened(decision.reader)}, {decided}", 9)
        own = [str(decision.body_part)] if decision.body_part else []
        own += [f"finding {decision.finding.words}"] if decision.finding else []
        if own:
            self._text(f"The reader's own result: {', '.join(own)}.")
        for mark in decision.marks:
            box = (mark.x0, mark.x1, mark.y0, mark.y1)
            left, right, top, bottom = (f"{100 * x:.0f}" for x in box)
            self._text(
                f"Marked on view {mark.view + 1} (frame in the picture): {left} to {right} % of "
                f"the width, {top} to {bottom} % of the height."
            )
        if decision.comment:
            self._text(decision.comment)

    def provenance(self) -> None:
        """Which release said so, its networks where they are several, and the limits of use."""
        release, study = self._report.release, self._report.study
        name, sha256 = self._report.assessed_by
        self.ln(1)
        if members := study.members:
            said = ", ".join(
                f"{m.name} {self._share(m.probability, study.body_part)} "
                f"(weight {percent(m.weight)})"
                for m in members
            )
            self._text(f"The probability is the average of several networks: {said}.")
        created = f" of {release.created}" if release else ""
        self._text(f"Release {name}{created}, SHA-256 {sha256}")
        self._text(f"Limits of use. {LIMITS}")

    def _cells(self, position: int, view: ImageResult) -> tuple[str, ...]:
        name = f"View {position + 1}"
        if view.origin.side:
            name += f", {SIDES[view.origin.side]}"
        if self._report.names:
            name = _shortened(f"{position + 1}: {view.file}")
        said = view.chosen or view.part or (view.body_part and view.body_part.label)
        part = f"{said}: {how_found(view)}" if said else how_found(view)
        if view.fracture is None:
            return name, part, f"not assessed. {view.reason or ''}", "–"
        finding = view.fracture.finding.words
        return name, part, finding, self._share(view.fracture.probability, view.part)

    def _share(self, probability: float, part: BodyPart | None) -> str:
        """A probability, told from the thresholds of the part that it is near to."""
        return probability_of(probability, self._report.release, part)

    def _row(self, places: list[tuple[int, bool]], height: float) -> None:
        """Pictures beside each other, (view, with heatmap), each with a line below it."""
        columns = max(2, len(places))
        width = (self.epw - GAP * (columns - 1)) / columns
        if self.get_y() + height + 5 > self.page_break_trigger:
            self.add_page()
        top = self.get_y()
        for column, (n, hot) in enumerate(places):
            radiograph, view = self._report.radiographs[n], self._report.study.views[n]
            left = self.l_margin + column * (width + GAP)
            said = f"View {n + 1}"
            if hot:
                said += _heat_caption(view)
            self.set_xy(left, top + height)
            self.set_font(FONT, size=7)
            self.set_text_color(*GREY)
            self.cell(width, 5, said, align="C")
            if radiograph is not None and not (hot and view.heatmap is None):
                file = _encoded(radiograph, view, hot, () if hot else self._report.marks_on(n))
                self.image(file, left, top, width, height, keep_aspect_ratio=True, alt_text=said)
        self.set_xy(self.l_margin, top + height + 6)

    def _line(
        self,
        text: str,
        size: int,
        colour: tuple[int, int, int] = (0, 0, 0),
        right: str = "",
        style: str = "",
        border: Literal["", "L"] = "",
    ) -> None:
        self.set_font(FONT, style, size)
        self.set_text_color(*colour)
        if right:
            self.cell(
                0, 0.5 * size, self._safe(right), align="R", new_x=XPos.LMARGIN, new_y=YPos.TOP
            )
        self.multi_cell(0, 0.5 * size, self._safe(text), border or 0, align="L", new_x=XPos.LMARGIN)

    def _text(self, text: str) -> None:
        self._line(text, 8)

    def _safe(self, text: str) -> str:
        """Text that this font prints, and that means what it shows."""
        kept = (" " if c in "\t\n\r" else c for c in text)
        visible = (c for c in kept if unicodedata.category(c) not in ("Cc", "Cf"))
        return "".join(c if ord(c) in self._letters else REPLACEMENT for c in visible)


def _fonts() -> Path:
    """The folder of DejaVu Sans, found without importing matplotlib."""
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("The PDF report needs matplotlib, for its fonts.")
    return Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"


def _encoded(
    radiograph: Radiograph, view: ImageResult, hot: bool, marks: tuple[Mark, ...]
) -> bytes:
    """One picture for the sheet as a JPEG file, with a frame for each mark; with its heatmap, one
    around what the network saw of it."""
    grey = to_8_bit(radiograph.pixels, PICTURE_SIDE)
    picture: NDArray[np.uint8] = grey
    if hot and view.heatmap is not None:
        coloured = overlay(grey, on_picture(view.heatmap, *grey.shape), OPACITY)
        picture = np.ascontiguousarray(coloured[..., ::-1])
        if view.heatmap.crop != WHOLE:
            rows, columns = inside(view.heatmap.crop, *grey.shape)
            last = columns.stop - 1, rows.stop - 1
            cv2.rectangle(picture, (columns.start, rows.start), last, SEEN, 1)
    if marks:
        picture = np.repeat(grey[..., None], 3, axis=2)
    height, width = grey.shape
    for mark in marks:
        first = round(mark.x0 * width), round(mark.y0 * height)
        last = round(mark.x1 * width), round(mark.y1 * height)
        thick = max(2, max(height, width) // 250)
        cv2.rectangle(picture, first, last, (0, 0, 0), 2 * thick)
        cv2.rectangle(picture, first, last, MARK, thick)
    _, file = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 88])
    return file.tobytes()


def _heat_caption(view: ImageResult) -> str:
    if view.heatmap is None:
        return ": not assessed"
    return " with heatmap" if view.heatmap.has_evidence else ": no positive evidence"


def _photographed(release: Release) -> str:
    """What was measured of findings from photographs."""
    found = photographed(release)
    if found is None:
        return "The reliability of findings from photographs was not measured."
    share, n = found
    return (
        "On simulated photographs the finding was the same as on the radiograph itself in "
        f"{share} of {n}."
    )


def _performance(found: Performance) -> str:
    return (
        f"Sensitivity {found.sensitivity}, specificity {found.specificity} "
        f"on the {found.split} radiographs of the release, by image, n = {found.n}."
    )


def _shortened(name: str) -> str:
    """A name of at most LONGEST characters, its middle left out."""
    half = LONGEST // 2
    return name if len(name) <= LONGEST else f"{name[: half - 1]}…{name[-half:]}"
