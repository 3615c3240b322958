"""What a result says, as markup: finding, probability, operating point, body part, details."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from core.manifest import Release, Stage
from core.notes import is_caution, not_ruled_out, not_sure, unreliable, unsure
from core.operating import (
    CENTRE,
    Estimate,
    Performance,
    calibration_error,
    counted_as,
    pointing,
    predictive_value,
    zones,
)
from core.quality import deciding
from core.study import SIDES, StudyResult, named
from core.types import (
    STRANGER,
    URGENCY,
    WHOLE,
    BodyPart,
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


def rank(finding: Finding | None) -> int:
    """Where a finding stands in a list that has the most urgent first."""
    return URGENCY.index(finding)


GLYPHS = {
    Finding.SUSPECTED: "▲",
    Finding.DOUBTFUL: "◇",
    Finding.NOT_SUSPECTED: "○",
    None: "–",
}
NOT_YET = "Not assessed yet."  # the reason of a view that waits
OF_HEADERS = SIDES | {"B": "both sides"}
CALIBRATED_BADLY = 0.15  # mean error of a part's probabilities, from which on it is a caution
CHOSEN = "<span class='chosen'>Chosen by the reader</span>"


def badge(finding: Finding | None) -> str:
    """A finding as word, shape and colour; None is "not assessed"."""
    word = WORDS[finding] if finding else "Not assessed"
    return f'<span class="finding {finding.value if finding else "none"}"><i></i>{word}</span>'


def study(result: StudyResult, release: Release, awaited: int = 0) -> str:
    """The study in one glance: body part, finding, probability, and what to beware of.

    awaited: how many views are still to be read.
    """
    above = unsure(result.counted)  # what is said beside body part and finding already
    if result.body_part and result.finding:
        above += unreliable(result.finding, result.body_part, release)
    below = cautions(note for note in result.notes if note not in above)
    found = _finding(result, release, awaited)
    return f"<dl class='reading'>{_part(result)}{found}</dl>{below}"


def cautions(notes: Iterable[str]) -> str:
    """What a reader must know, a line each; what warns of nothing is quieter."""
    kinds = {True: "caution", False: "soft"}
    return "".join(f"<p class='{kinds[is_caution(note)]}'>{escape(note)}</p>" for note in notes)


def views(names: Iterable[str], results: Iterable[ImageResult]) -> str:
    """A line for each view; one that was refused says why."""
    rows = "".join(_view_row(escape(name), result) for name, result in zip(names, results))
    return f"<table class='details views'>{rows}</table>"


def operating(found: Performance, result: StudyResult, prevalence: float | None) -> str:
    """An operating point: its figures, and what they mean for this study at a prevalence in [0, 1].

    prevalence: None until the reader said one.
    """
    point, probability = found.point, result.probability or 0.0
    rule = _unbroken(counted_as(point, probability, result.finding))
    below = (
        "<p class='soft'>Move the slider to the prevalence among your patients to see predictive "
        "values.</p>"
    )
    chance = ""
    if prevalence is not None:
        name, value = predictive_value(found, probability, prevalence)
        told = f"<b>{estimate(value)}</b>" if value else "not defined"
        chance, below = f"<tr><td>{name}</td><td>{told}</td></tr>", ""
    if found.split == "test":
        where = "test radiographs of the release, by image"
    else:
        where = f"{escape(found.split)} radiographs, on which the threshold was chosen"
    return (
        f"<p class='soft'>{rule}</p>"
        f"<table class='details'><tr><td>Sensitivity</td><td>{estimate(found.sensitivity)}</td>"
        f"</tr><tr><td>Specificity</td><td>{estimate(found.specificity)}</td></tr>{chance}</table>"
        f"{below}<p class='soft'>Measured on {found.n} {where}.</p>"
    )


def pointed(release: Release, method: str) -> str:
    """How often the heatmap points right, if that was measured for this release."""
    said = "how often it points right was not measured for this release"
    if found := pointing(release, method):
        share, n = found
        said = f"its peak lay in or near the marked lesion in {estimate(share)} of {n} measured"
        if centre := pointing(release, CENTRE):
            said += f" (the picture’s centre alone: {percent(centre[0].value)})"
    return f"<p class='soft'>Heatmap: {said}. Not an outline.</p>"


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
            return _part_row("Another", f"Recognised as {_recognised([said])}.", CHOSEN)
        other = said.label == BodyPart.OTHER
        return _part_row("Not recognised" if other else said.label.words.capitalize())
    part = named(result).capitalize()
    if any(v.chosen for v in result.counted):
        return _part_row(part, f"Recognised as {_recognised(seen)}.", CHOSEN)
    doubted = not_sure(result.counted)
    chip = f"<span class='check'>Not sure: {percent(doubted.probability)}</span>" if doubted else ""
    return _part_row(part, f"Recognised automatically: {_by_view(result)}.", chip)


def _part_row(part: str, how: str = "", chip: str = "") -> str:
    below = f"<div class='soft'>{how}</div>" if how else ""
    value = f"<div class='value'><span>{part}</span>{chip}</div>"
    return f"<dt>Body part</dt><dd>{value}{below}</dd>"


def _by_view(result: StudyResult) -> str:
    """How sure stage 1 is of each view that counts, such as "95 % (view 1), 99 % (view 3)"."""
    counted = result.counted
    shares = [
        (n, percent(view.body_part.probability))
        for n, view in enumerate(result.views, 1)
        if view.body_part is not None and any(view is one for one in counted)
    ]
    if len(result.views) == 1:
        return shares[0][1]
    return ", ".join(f"{share} (view&nbsp;{n})" for n, share in shares)


def _recognised(named: list[BodyPartPrediction]) -> str:
    """What stage 1 said of each view, a part named once, such as "elbow 99 %, 97 %"."""
    labels = dict.fromkeys(p.label for p in named)
    shares = {k: ", ".join(percent(p.probability) for p in named if p.label == k) for k in labels}
    return "; ".join(f"{label} {share}" for label, share in shares.items())


def _finding(result: StudyResult, release: Release, awaited: int) -> str:
    stage = release.stages.get(result.body_part or "")
    if stage is None or result.finding is None or result.probability is None:
        why = dict.fromkeys(_refused(view, release) for view in result.views)
        return f"<dt>Finding</dt><dd><div class='value'>{badge(None)}</div>{''.join(why)}</dd>"
    points = deciding(stage.operating_points)
    share = percent(result.probability, [p.threshold for p in points])
    meant = escape(stage.label_means) or "not recorded"
    return (
        f"<dt>Finding: {meant}</dt>"
        f"<dd><div class='value'>{badge(result.finding)}"
        f"<span class='number'>{share}</span></div>{explained(result, release, awaited)}</dd>"
    )


def explained(result: StudyResult, release: Release, awaited: int = 0) -> str:
    """Where the probability lies, what does not follow from it, and how sure it is; empty where the
    release has no model of the part, or nothing was assessed. awaited: as of ``study``."""
    stage = release.stages.get(result.body_part or "")
    if stage is None or result.finding is None or result.probability is None:
        return ""
    points = deciding(stage.operating_points)
    return (
        f"{_scale(result.probability, result.finding, points)}"
        f"<div class='soft'>{_where_it_lies(result, points, awaited)}</div>"
        f"{_not_ruled_out(result, release)}{_how_sure(result, release, stage)}"
    )


def _refused(view: ImageResult, release: Release) -> str:
    """Why a view was not assessed, and what its reader can do where the reason names the parts."""
    if view.reason == NOT_YET:
        return f"<p class='soft'>{NOT_YET}</p>"
    said, hint = view.body_part, ""
    if view.chosen is None and said is not None and said.label == BodyPart.OTHER:
        absent = {BodyPart(name).words for name in release.absent}
        if release.parts and said.looks_like not in (STRANGER, *absent):
            hint = " If it is one of these, choose it under “Body part is wrong?”."
    return f"<p class='caution'>{escape(view.reason or '')}{hint}</p>"


def _where_it_lies(result: StudyResult, points: list[OperatingPoint], awaited: int) -> str:
    """The thresholds beside which the probability stands, and of how many views it is the mean."""
    count, said = len(result.counted), []
    if starts := zones(points, result.probability or 0.0):
        said.append(f"{_unbroken(starts.capitalize())}.")
    if awaited:
        said.append(f"From {count} of {len(result.views)} views so far.")
    elif count > 1:
        said.append(f"Mean of {count} views.")
    return " ".join(said)


def _not_ruled_out(result: StudyResult, release: Release) -> str:
    """Of what is not suspected, how many positives lay below the threshold, too."""
    part = result.body_part
    if part is None or result.finding is not Finding.NOT_SUSPECTED:
        return ""
    kind = "caution" if unreliable(result.finding, part, release) else "soft"
    said = not_ruled_out(part, release)
    return f"<p class='{kind}'>{_unbroken(said)}</p>" if said else ""


def _how_sure(result: StudyResult, release: Release, stage: Stage) -> str:
    """Networks and calibration, folded; where it is calibrated badly, that is seen."""
    calibrated, seen = f"The probability was calibrated on {stage.chosen_on} radiographs", ""
    part = result.body_part
    if part and (found := calibration_error(release, part)):
        error, n = found
        off = f"{100 * error.value:.0f} percentage points"
        calibrated += f" (calibration error {off} on the {n} that it was measured on)"
        if error.value >= CALIBRATED_BADLY:
            seen = (
                f"<p class='caution'>{part.words.capitalize()} probabilities were off by {off} on "
                f"average, on the {n} radiographs that the release was measured on.</p>"
            )
    return (
        f"{seen}<details class='soft'><summary>How sure is this?</summary>"
        f"{_members(result.members)}{calibrated}.</details>"
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
    return f"Networks: {said}; {apart} percentage points apart. "


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
    high = "" if any(t >= 80 for t in ticks) else "<span class='high'>100&nbsp;%</span>"
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
        f"on the {point.n} {stage.chosen_on} radiographs on which it was chosen."
    )


def estimate(share: Estimate) -> str:
    """A share with its interval, in per cent, as markup."""
    return _unbroken(str(share)).replace(", ", ",&nbsp;")


def _unbroken(sentence: str) -> str:
    """A sentence as markup in which no line ends before a per cent sign."""
    return escape(sentence).replace(" %", "&nbsp;%")
