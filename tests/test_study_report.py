"""The report of a study: read back from the PDF by another program, and as JSON."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from core import report
from core.__main__ import main
from core.cascade import Cascade
from core.pipeline import diagnose
from core.report import StudyReport, paper
from core.settings import ImageLimits
from core.study import Mark, combine
from core.types import (
    WHOLE,
    BodyPart,
    Crop,
    Finding,
    FracturePrediction,
    MemberPrediction,
    OperatingPoint,
    Photograph,
)
from core.words import percent
from tests.simulated import dicom, encoded, phantom

NOON = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
HOSTILE = "<b>Даша</b> \u202egpj.exe\n%PDF (\\) \U0001f9b4 \udcff" + "x" * 300 + ".png"


def study(cascade: Cascade, *names: str, part: BodyPart | None = BodyPart.HAND) -> StudyReport:
    """A report of drawn radiographs; a name that says broken is no picture."""
    found = []
    for n, name in enumerate(names):
        data = b"nothing" if "broken" in name else encoded(phantom(120, 90, seed=n), "PNG")
        found.append(diagnose(cascade, data, name, ImageLimits(), part))
    radiographs, results = zip(*found)
    whole = combine("patient7/study1", results, cascade.release)
    return StudyReport(whole, radiographs, cascade.release, NOON)


def printed(data: bytes, tmp_path: Path) -> tuple[str, int]:
    """What pdftotext reads, with single spaces, and the number of pages."""
    path = tmp_path / "report.pdf"
    path.write_bytes(data)
    words = subprocess.run(["pdftotext", "-layout", path, "-"], capture_output=True, check=True)
    info = subprocess.run(["pdfinfo", path], capture_output=True, check=True, text=True).stdout
    pages = next(line.split()[-1] for line in info.splitlines() if line.startswith("Pages"))
    return " ".join(words.stdout.decode().split()), int(pages)


@pytest.mark.parametrize("views", [1, 3, 4])
def test_a_study_is_one_page_with_all_that_a_reader_must_know(cascade, tmp_path, views):
    made = study(cascade, *(f"{n}.png" for n in range(views)))
    text, pages = printed(report.pdf(made), tmp_path)
    assert pages == 1
    assert "Hand" in text and f"View {views}" in text
    assert f"{100 * made.study.probability:.0f} %" in text
    assert (
        f"Finding: {made.study.finding.words.upper()} · probability "
        f"{percent(made.study.probability)}" in text
    )
    assert "doubtful from 30 %, suspected from 70 %; calibrated" in text
    assert "At “sensitive”, doubtful counts as positive (30 % and above): this study is" in text
    assert (
        "Sensitivity 95 % (no interval), specificity 50 % (no interval) on the validation" in text
    )
    assert "n = 40" in text
    assert made.release.sha256 in text.replace(" ", "")
    assert "2026-11-28 12:00 UTC" in text
    assert "not a medical device" in text
    assert "a positive label meant “fracture”" in text


def test_pictures_are_there_with_and_without_the_heatmap(cascade, tmp_path):
    (tmp_path / "r.pdf").write_bytes(report.pdf(study(cascade, "a.png", "b.png")))
    listed = subprocess.run(
        ["pdfimages", "-list", tmp_path / "r.pdf"], capture_output=True, check=True, text=True
    ).stdout.splitlines()[2:]
    kinds = [line.split()[5] for line in listed]
    assert sorted(kinds) == ["gray", "gray", "rgb", "rgb"]


def test_names_only_if_asked_and_hostile_ones_are_text(cascade, tmp_path):
    made = study(cascade, HOSTILE)
    text, _ = printed(report.pdf(made), tmp_path)
    assert "Даша" not in text and "patient7" not in text
    assert made.study.views[0].sha256[:12] in text and "Patient ____" in text
    assert "Даша" not in json.dumps(report.as_json(made), ensure_ascii=False)
    data = report.pdf(replace(made, names=True))
    text, pages = printed(data, tmp_path)
    assert pages == 1
    assert "<b>Даша</b>" in text and "patient7/study1" in text and "Patient ____" not in text
    assert "gpj.exe" in text and "\u202e" not in text
    assert "%PDF (\\)" in text


def test_a_refused_view_says_why_and_views_of_another_part_are_named(cascade, tmp_path):
    made = study(cascade, "a.png", "broken.png")
    text, _ = printed(report.pdf(made), tmp_path)
    assert "not assessed" in text and made.study.views[1].reason.split()[0] in text
    assert "1 of 2 views was not assessed." in text
    alone = study(cascade, "broken.png")
    text, pages = printed(report.pdf(alone), tmp_path)
    assert "Finding: NOT ASSESSED" in text and pages == 1
    assert report.as_json(alone)["operating_point"] is None


def test_the_reader_s_decision_is_printed(cascade, tmp_path):
    decision = report.Decision(
        "Dr. Łukasiewicz",
        NOON,
        agrees=False,
        body_part=BodyPart.ELBOW,
        finding=Finding.NOT_SUSPECTED,
        comment="Old, healed. <script>",
        marks=(Mark(0, 0.1, 0.2, 0.3, 0.4),),
    )
    second = report.Decision("carol", NOON, agrees=None)
    made = replace(study(cascade, "a.png"), decisions=(decision, second))
    text, pages = printed(report.pdf(made), tmp_path)
    assert pages == 1
    assert "Reader disagrees: Dr. Łukasiewicz, 2026-11-28 12:00 UTC" in text
    assert "elbow, finding not suspected" in text
    assert "Reader asks for a second look: carol" in text
    assert "Old, healed. <script>" in text
    assert "Marked on view 1 (frame in the picture): 10 to 30 % of the width, 20 to 40 %" in text
    record = json.loads(json.dumps(report.as_json(made)))
    assert [d["finding"] for d in record["decisions"]] == ["not_suspected", None]
    assert record["decisions"][0]["marks"] == [
        {"view": 0, "x0": 0.1, "y0": 0.2, "x1": 0.3, "y1": 0.4}
    ]


def test_what_the_network_saw_is_framed_beside_the_heatmap(cascade):
    made = study(cascade, "a.png")
    radiograph, view = made.radiographs[0], made.study.views[0]
    empty = replace(view.heatmap, values=np.zeros_like(view.heatmap.values), crop=WHOLE)
    whole, part = (
        paper._encoded(radiograph, replace(view, heatmap=replace(empty, crop=crop)), True, ())
        for crop in (WHOLE, Crop(0.25, 0.25, 0.75, 0.75))
    )
    before, after = (cv2.imdecode(np.frombuffer(f, np.uint8), 0).astype(int) for f in (whole, part))
    height, width = before.shape
    changed = abs(after - before) > 20
    assert changed[round(0.25 * height), round(0.3 * width) : round(0.7 * width)].mean() > 0.5
    assert not changed[: round(0.2 * height)].any()


def test_a_mark_is_drawn_on_the_picture_without_the_heatmap(cascade):
    made = study(cascade, "a.png")
    radiograph, view = made.radiographs[0], made.study.views[0]
    plain, marked = (
        cv2.imdecode(np.frombuffer(paper._encoded(radiograph, view, False, m), np.uint8), -1)
        for m in ((), (Mark(0, 0.25, 0.25, 0.75, 0.75),))
    )
    assert plain.ndim == 2 and marked.ndim == 3
    grey = cv2.cvtColor(marked, cv2.COLOR_BGR2GRAY).astype(int)
    height, width = plain.shape
    changed = np.argwhere(abs(grey - plain) > 40)
    assert len(changed) > 20
    for axis, size in enumerate((height, width)):
        low, high = changed[:, axis].min() / size, changed[:, axis].max() / size
        assert abs(low - 0.25) < 0.06 and abs(high - 0.75) < 0.06


def test_the_part_that_a_reader_named_is_beside_the_first_result(cascade, tmp_path):
    made = study(cascade, "a.png", "b.png")
    asked = study(cascade, "a.png", "b.png", part=BodyPart.ELBOW).study
    made = replace(made, reassessed=(report.Reassessed(asked, made.release),))
    text, pages = printed(report.pdf(made), tmp_path)
    assert pages == 1 and "Hand" in text
    share = f"{100 * asked.probability:.0f} %"
    assert f"Assessed as elbow, as named by a reader: finding {asked.finding.words}" in text
    assert f"probability {share}" in text
    record = json.loads(json.dumps(report.as_json(made)))
    assert record["study"]["body_part"] == "hand"
    (again,) = record["reassessed"]
    assert again["body_part"] == "elbow" and [v["chosen"] for v in again["views"]] == ["elbow"] * 2
    assert again["views"][0]["file"] == "View 1"


def test_what_another_release_says_of_a_named_part_is_told_as_that_release_tells_it(
    cascade, tmp_path
):
    """Its thresholds, its notes once, and who it is."""
    made, near = study(cascade, "a.png"), 0.4996
    [view] = made.study.views
    part, stages = view.part, cascade.release.stages
    assert part is not None
    points = tuple(OperatingPoint(n, t, 0.9, 0.9, 9) for n, t in (("sensitive", 0.5), ("b", 0.9)))
    there = {**stages, part: replace(stages[part], operating_points=points)}
    release = replace(cascade.release, stages=there, sha256="f" * 64)
    fracture = FracturePrediction(near, Finding.NOT_SUSPECTED)
    view = replace(view, fracture=fracture, release_sha256=release.sha256)
    result = replace(combine("s", [view], release), notes=("Only said there.", "Said twice."))
    made = replace(made, study=replace(made.study, notes=("Said twice.",)))
    text, _ = printed(
        report.pdf(replace(made, reassessed=(report.Reassessed(result, release),))), tmp_path
    )
    assert "named by a reader, in another mode or with other parts of the release: finding" in text
    assert "probability 49.96 % (view 1 49.96 %)" in text
    assert text.count("Only said there.") == 1 and text.count("Said twice.") == 1
    result = replace(result, views=(replace(view, release="other"),))
    other = replace(made, reassessed=(report.Reassessed(result, None),))
    assert "as named by a reader, release other: finding" in printed(report.pdf(other), tmp_path)[0]


def test_a_superseded_study_says_so_first(cascade, tmp_path):
    made = study(cascade, "a.png")
    assert json.loads(json.dumps(report.as_json(made)))["study"]["superseded_by"] is None
    assert "superseded" not in printed(report.pdf(made), tmp_path)[0]
    made = replace(made, superseded_by="n" * 32)
    assert report.as_json(made)["study"]["superseded_by"] == "n" * 32
    text, _ = printed(report.pdf(made), tmp_path)
    assert text.index(report.SUPERSEDED) < text.index("probability")


def test_each_probability_on_paper_is_told_from_the_threshold_near_it(cascade, tmp_path):
    """Not suspected below 30 %."""
    made, near = study(cascade, "a.png").study, 0.2996
    [view] = made.views
    members = (MemberPrediction("ResNet50", near, 0.5), MemberPrediction("Other", near, 0.5))
    view = replace(view, fracture=FracturePrediction(near, Finding.NOT_SUSPECTED, members))
    whole = combine("s", [view], cascade.release)
    asked = report.Reassessed(whole, cascade.release)
    shown = StudyReport(whole, [None], cascade.release, NOON, reassessed=(asked,))
    text, _ = printed(report.pdf(shown), tmp_path)
    assert "probability 29.96 % (view 1 29.96 %)" in text
    assert "ResNet50 29.96 % (weight 50 %), Other 29.96 %" in text


def test_predictive_values_at_the_prevalence_of_the_reader(cascade, tmp_path):
    made = study(cascade, "a.png")
    text, _ = printed(report.pdf(made), tmp_path)
    assert "Of those called" not in text
    assert report.as_json(made)["predictive_values"] is None
    made = replace(made, prevalence=0.2)
    text, pages = printed(report.pdf(made), tmp_path)
    assert pages == 1
    # sensitivity .95, specificity .5: .19 / (.19 + .4) and .4 / (.4 + .01)
    assert (
        "Of those called positive, have it (PPV): 32 % (no interval), at a prevalence of 20 %."
        in text
    )
    assert "(NPV)" not in text
    below = replace(made, point="specific")
    text, _ = printed(report.pdf(below), tmp_path)
    assert "doubtful counts as negative (below 70 %): this study is negative." in text
    assert "Of those called negative, do not have it (NPV)" in text and "(PPV)" not in text
    found = report.as_json(made)["predictive_values"]
    assert found == {
        "prevalence": 0.2,
        "ppv": pytest.approx(0.322034),
        "ppv_interval": None,
        "npv": pytest.approx(0.97561),
        "npv_interval": None,
    }


def test_a_study_just_below_a_point_is_printed_below_it(cascade, tmp_path):
    made = study(cascade, "a.png")
    point = OperatingPoint("sensitive", made.study.probability + 0.0004, 0.95, 0.5, 40)
    stages = made.release.stages
    hand = replace(stages["hand"], operating_points=(point,))
    made = replace(made, release=replace(made.release, stages=stages | {"hand": hand}))
    text, _ = printed(report.pdf(made), tmp_path)
    here, there = (percent(p, [q]) for p, q in _both_ways(made.study.probability, point.threshold))
    assert here != there and f"probability {here}" in text and f"suspected from {there}" in text
    assert f"{there} and above" in text and "this study is negative." in text
    assert text.count(here) >= 2  # in the table of views, too


def _both_ways(one: float, other: float) -> tuple[tuple[float, float], tuple[float, float]]:
    return (one, other), (other, one)


def test_a_release_that_is_gone_has_no_figures_and_nothing_false_is_said(cascade, tmp_path):
    made = study(cascade, "a.png")
    bare = {"hand": replace(made.release.stages["hand"], operating_points=())}
    view = replace(made.study.views[0], photograph=Photograph())
    made = replace(
        made,
        study=replace(made.study, views=(view,)),
        release=replace(made.release, stages=bare),
    )
    text, _ = printed(report.pdf(made), tmp_path)
    assert "no operating point of this name" in text and "was not measured" in text
    gone = replace(made, release=None, label_meant="fracture")
    text, _ = printed(report.pdf(gone), tmp_path)
    assert report.GONE in text and "a positive label meant “fracture”" in text
    assert "no operating point of this name" not in text and "was not measured" not in text
    found = report.as_json(gone)["release"]
    assert (found["installed"], found["created"], found["mode"]) == (False, None, None)
    assert report.as_json(made)["release"]["installed"]


def test_json_has_the_side(cascade):
    made = study(cascade, "a.png")
    assert report.as_json(made)["study"]["side"] is None
    view = replace(made.study.views[0], origin=replace(made.study.views[0].origin, side="L"))
    left = replace(made, study=replace(made.study, views=(view,)))
    assert report.as_json(left)["study"]["side"] == "L"


def test_figures_of_the_test_split_are_preferred(cascade, tmp_path):
    common = {"stage": "fracture", "part": "hand", "source": "all", "level": "image", "n": 204}
    figures = [
        common | {"metric": "sensitivity (specific)", "value": 0.44, "low": 0.33, "high": 0.56},
        common | {"metric": "specificity (specific)", "value": 0.96, "low": 0.92, "high": 0.99},
    ]
    made = study(cascade, "a.png")
    release = replace(made.release, metrics={"split": "test", "figures": figures})
    made = replace(made, release=release, point="specific")
    text, _ = printed(report.pdf(made), tmp_path)
    assert "Sensitivity 44 % [33, 56], specificity 96 % [92, 99] on the test radiographs" in text
    assert "n = 204" in text
    assert report.as_json(made)["operating_point"]["sensitivity"]["low"] == 0.33


def test_command_writes_both_forms(weights, tmp_path, capsys):
    view = tmp_path / "Smith^Jane.dcm"
    view.write_bytes(dicom(phantom(90, 70, bits=16), ImagerPixelSpacing=[0.2, 0.1]))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    common = ["--weights", str(weights), "report", str(view), str(broken), "--device", "cpu"]
    assert main([*common, "--out", str(tmp_path / "a.pdf")]) == 0
    text, pages = printed((tmp_path / "a.pdf").read_bytes(), tmp_path)
    assert pages == 1 and "Smith" not in text
    more = ["--names", "--prevalence", "10"]
    assert main([*common, "--out", str(tmp_path / "a.json"), *more]) == 0
    record = json.loads((tmp_path / "a.json").read_text())
    values = record["predictive_values"]
    assert values is None if record["study"]["body_part"] is None else values["prevalence"] == 0.1
    assert record["views"][0]["file"] == str(view)
    assert record["views"][0]["pixel_spacing_mm"] == pytest.approx([0.1, 0.1])
    assert record["views"][1]["status"] == "rejected"
    assert record["release"]["id"] == "random" and len(record["release"]["sha256"]) == 64
    with pytest.raises(SystemExit) as wrong:
        main([*common, "--out", str(tmp_path / "a.doc")])
    assert wrong.value.code == 2
    for share in ("0", "100", "few"):
        with pytest.raises(SystemExit) as wrong:
            main([*common, "--out", str(tmp_path / "a.pdf"), "--prevalence", share])
        assert wrong.value.code == 2
    (tmp_path / "file").write_text("")
    assert main([*common, "--out", str(tmp_path / "file" / "a.pdf")]) == 1
    assert "cannot be written" in capsys.readouterr().err
