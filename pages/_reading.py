"""What a result says, as markup: finding, probability, operating point, body part, details."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from core.manifest import Release, Stage
from core.operating import (
    CENTRE,
    WIDENED,
    Estimate,
    Performance,
    calibration_error,
    pointing,
    predictive_values,
)
from core.quality import deciding
from core.study import SIDES, StudyResult, named
from core.types import (
    WHOLE,
    BodyPartPrediction,
    Crop,
    DicomHeader,
    Finding,
    ImageResult,
    MemberPrediction,
    OperatingPoint,
)
from pages._theme import percent
from pages._viewer import Prepared

WORDS = {finding: finding.words.capitalize() for finding in reversed(Finding)}
URGENCY = (*WORDS, None)


def rank(finding: Finding | None) -> int:
    """Where a finding stands in a list that has the most urgent first."""
    return URGENCY.index(finding)


GLYPHS = {
    Finding.SUSPECTED: "▲",
    Finding.DOUBTFUL: "◇",
    Finding.NOT_SUSPECTED: "○",
    None: "–",
}
OF_HEADERS = SIDES | {"B": "both sides"}
WHAT_HEAT_IS = (
    "A heatmap shows where the positive evidence lies, not the outline of a lesion. It is scaled "
    "by the probability, so that a faint one goes with a low probability."
)


def badge(finding: Finding | None) -> str:
    """A finding as word, shape and colour; None is "not assessed"."""
    word = WORDS[finding] if finding else "Not assessed"
    return f'<span class="finding {finding.value if finding else "none"}"><i></i>{word}</span>'


def study(result: StudyResult, release: Release, awaited: int = 0) -> str:
    """The study in one glance: body part, finding, probability, and what to beware of.

    awaited: how many views are still to be read.
    """
    stage = release.stages.get(result.body_part or "")
    notes = "".join(f"<p class='caution'>{escape(note)}</p>" for note in result.notes)
    error = calibration_error(release, result.body_part) if result.body_part else None
    found = _finding(result, stage, awaited, error)
    return f"<dl class='reading'>{_part(result)}{found}</dl>{notes}"


def views(names: Iterable[str], results: Iterable[ImageResult]) -> str:
    """A line for each view; one that was refused says why."""
    rows = "".join(_view_row(escape(name), result) for name, result in zip(names, results))
    return f"<table class='details views'>{rows}</table>"


def operating(found: Performance, result: StudyResult, prevalence: float) -> str:
    """An operating point: its figures, and what they mean at a prevalence in [0, 1]."""
    point, probability = found.point, result.probability or 0.0
    side = "at or above it" if probability >= point.threshold else "below it"
    start, here = percent(point.threshold, [probability]), percent(probability, [point.threshold])
    ppv, npv = predictive_values(found.sensitivity, found.specificity, prevalence)
    positive = "nothing would be positive" if ppv is None else f"<b>{estimate(ppv)}</b>"
    negative = "nothing would be negative" if npv is None else f"<b>{estimate(npv)}</b>"
    if found.split == "test":
        where = "test radiographs of the release, image by image"
    else:
        where = f"{escape(found.split)} radiographs, those that chose the threshold"
    return (
        f"<p class='soft'>Positive from {start} on; this study is {side} ({here}).</p>"
        f"<table class='details'><tr><td>Sensitivity</td><td>{estimate(found.sensitivity)}</td>"
        f"</tr><tr><td>Specificity</td><td>{estimate(found.specificity)}</td></tr>"
        f"<tr><td>If positive, has it (PPV)</td><td>{positive}</td></tr>"
        f"<tr><td>If negative, has it not (NPV)</td><td>{negative}</td></tr></table>"
        f"<p class='soft'>On {found.n} {where}.</p>"
    )


def pointed(release: Release, method: str) -> str:
    """How often the heatmap points right, if that was measured for this release."""
    found = pointing(release, method)
    if found is None:
        said = "How often it points right was not measured for this release."
    else:
        share, n = found
        said = (
            f"Its hottest place lay in the annotated box, or within {percent(WIDENED)} of the "
            f"picture’s longer side of it, in {estimate(share)} of {n} positives."
        )
        if centre := pointing(release, CENTRE):
            said += f" The picture’s centre, whatever it shows, does in {estimate(centre[0])}."
    return f"<p class='soft'>{WHAT_HEAT_IS} {said}</p>"


def details(result: ImageResult, picture: Prepared | None, stage: Stage | None) -> str:
    """What few readers ask for, of one view, as a table of two columns."""
    found = result.body_part.probabilities if result.body_part else {}
    rows = [(p.words.capitalize(), percent(v)) for p, v in found.items()]
    if stage:
        for point in stage.operating_points:
            name = f"Operating point “{point.name}”"
            rows.append((name, f"≥&nbsp;{percent(point.threshold)}: {_figures(point, stage)}"))
    rows += [(name, escape(value)) for name, value in facts(picture)] if picture else []
    for member in result.fracture.members if result.fracture else ():
        said = f"{percent(member.probability)}, weight {percent(member.weight)}"
        rows.append((member.name, said))
    if result.heatmap is not None:
        cells = " × ".join(str(n) for n in result.heatmap.values.shape)
        rows.append(("Heatmap", f"{escape(result.heatmap.method)}, {cells} cells"))
        rows.append(("Seen by the network", _seen(result.heatmap.crop)))
    rows.append(("Time", f"{result.milliseconds:.0f}&nbsp;ms"))
    rows.append(("SHA-256", escape(result.sha256 or "")))
    rows.append(("Release", escape(f"{result.release} ({result.release_sha256[:12]})")))
    body = "".join(f"<tr><td>{escape(k)}</td><td>{v}</td></tr>" for k, v in rows)
    return f"<table class='details'>{body}</table>"


def _seen(crop: Crop) -> str:
    """Which part of the picture was looked at."""
    if crop == WHOLE:
        return "the whole picture"
    top, left, bottom, right = (f"{100 * end:.0f}" for end in crop)
    return f"{top} to {bottom}&nbsp;% of the height, {left} to {right}&nbsp;% of the width"


def facts(picture: Prepared) -> list[tuple[str, str]]:
    """What is known of the file, as plain text."""
    radiograph, (height, width) = picture.radiograph, picture.size
    found = [("File", f"{radiograph.format}, {width} × {height} pixels"), ("Shown", picture.shown)]
    if radiograph.pixel_spacing is not None:
        found.append(("Pixel spacing", "{:.3g} × {:.3g} mm".format(*radiograph.pixel_spacing)))
    return found + [("Note", note) for note in radiograph.notes]


def view_name(position: int, header: DicomHeader | None) -> str:
    """The number of a view and what its DICOM header says of it, such as "2: AP, right"."""
    known = [header.view_position, OF_HEADERS.get(header.laterality, "")] if header else []
    said = ", ".join(word for word in known if word)
    return f"{position + 1}: {said}" if said else f"{position + 1}"


def _part(result: StudyResult) -> str:
    seen = [v.body_part for v in result.counted if v.body_part is not None]
    if result.body_part is None:
        said = next((v.body_part for v in result.views if v.body_part is not None), None)
        if said is None:
            return ""
        if any(v.chosen for v in result.views):
            how = f"Recognised as {_recognised([said])}."
            return _part_row("Another", how, by_reader=True)
        return _part_row(said.label.words.capitalize())
    part, recognised = named(result).capitalize(), _recognised(seen)
    if any(v.chosen for v in result.counted):
        return _part_row(part, f"Recognised as {recognised}.", by_reader=True)
    return _part_row(part, f"Recognised by the first stage: {recognised}.")


def _part_row(part: str, how: str = "", by_reader: bool = False) -> str:
    chosen = "<span class='chosen'>Chosen by the reader</span>" if by_reader else ""
    below = f"<div class='soft'>{how}</div>" if how else ""
    value = f"<div class='value'><span>{part}</span>{chosen}</div>"
    return f"<dt>Body part</dt><dd>{value}{below}</dd>"


def _recognised(named: list[BodyPartPrediction]) -> str:
    """What stage 1 said of each view, a part named once, such as "elbow 99 %, 97 %"."""
    labels = dict.fromkeys(p.label for p in named)
    shares = {k: ", ".join(percent(p.probability) for p in named if p.label == k) for k in labels}
    return "; ".join(f"{label} {share}" for label, share in shares.items())


def _finding(
    result: StudyResult,
    stage: Stage | None,
    awaited: int,
    error: tuple[Estimate, int] | None,
) -> str:
    if stage is None or result.finding is None or result.probability is None:
        reasons = dict.fromkeys(v.reason or "" for v in result.views)
        why = "".join(f"<div class='soft'>{escape(reason)}</div>" for reason in reasons)
        return f"<dt>Finding</dt><dd><div class='value'>{badge(None)}</div>{why}</dd>"
    points = deciding(stage.operating_points)
    share = percent(result.probability, [p.threshold for p in points])
    meant = escape(stage.label_means) or "not recorded"
    count = len(result.counted)
    mean = f"The mean of {count} views. " if count > 1 else ""
    calibrated = f"The probability was calibrated on {stage.chosen_on} radiographs"
    if error is not None:
        off, n = error
        calibrated += (
            f" and was off by {100 * off.value:.0f} points on average on {n} test radiographs"
        )
    if awaited:
        mean = f"From {count} of {len(result.views)} views so far. "
    return (
        f"<dt>Finding: {meant}</dt>"
        f"<dd><div class='value'>{badge(result.finding)}"
        f"<span class='number'>{share}</span></div>"
        f"{_scale(result.probability, result.finding, points)}{_members(result.members)}"
        f"<div class='soft'>{mean}{calibrated}; in the training data a positive "
        f"label meant “{meant}”.</div></dd>"
    )


def _members(members: Sequence[MemberPrediction]) -> str:
    """What each network of an ensemble says by itself; empty where one network said it."""
    if not members:
        return ""
    said = ", ".join(
        f"{escape(m.name)} {percent(m.probability)} (weight {percent(m.weight)})" for m in members
    )
    values = [m.probability for m in members]
    apart = round(100 * (max(values) - min(values)))
    return f"<div class='soft'>The networks: {said}; {apart} points apart.</div>"


def _scale(probability: float, finding: Finding, points: list[OperatingPoint]) -> str:
    """0 to 100 % with the operating points and the probability marked."""
    ticks = [100 * p.threshold for p in points]
    zone = ""
    if len(ticks) > 1:
        width = ticks[-1] - ticks[0]
        zone = f"<span class='doubt' style='left:{ticks[0]:.1f}%;width:{width:.1f}%'></span>"
    lines = "".join(f"<span class='tick' style='left:{t:.1f}%'></span>" for t in ticks)
    # Where both have no room a threshold is told, and not the end of the scale.
    low = "" if any(t <= 6 for t in ticks) else "<span class='low'>0</span>"
    high = "" if any(t >= 88 for t in ticks) else "<span class='high'>100&nbsp;%</span>"
    numbers = "".join(f"<span style='left:{t:.1f}%'>{t:.0f}</span>" for t in ticks)
    mark = f"<span class='mark {finding.value}' style='left:{100 * probability:.1f}%'></span>"
    ends = f"<div class='ends'>{low}{numbers}{high}</div>"
    return f"<div class='scale'>{zone}{lines}{mark}</div>{ends}"


def _view_row(name: str, result: ImageResult) -> str:
    if result.fracture is None:
        said = f"<span class='soft'>{escape(result.reason or '')}</span>"
        return f"<tr><td>{name}</td><td colspan='3'>{said}</td></tr>"
    part = result.part.words.capitalize() if result.part else ""
    return (
        f"<tr><td>{name}</td><td>{part}</td><td>{badge(result.fracture.finding)}</td>"
        f"<td>{percent(result.fracture.probability)}</td></tr>"
    )


def _figures(point: OperatingPoint, stage: Stage) -> str:
    return (
        f"sensitivity {percent(point.sensitivity)}, specificity {percent(point.specificity)} "
        f"on the {point.n} {stage.chosen_on} radiographs that chose it."
    )


def estimate(share: Estimate) -> str:
    """A share with its interval, in per cent, as markup."""
    return escape(str(share)).replace(" %", "&nbsp;%").replace(", ", ",&nbsp;")
