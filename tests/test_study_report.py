"""The report of a study: read back from the PDF by another program, and as JSON."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core import report
from core.__main__ import main
from core.cascade import Cascade
from core.pipeline import diagnose
from core.report import StudyReport
from core.settings import ImageLimits
from core.study import combine
from core.types import BodyPart, Finding
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
    assert report.paper.WORDS[made.study.finding] in text
    assert "Operating point “sensitive” (probability at or above 30 %)" in text
    assert "sensitivity 95 %, specificity 50 % on the validation radiographs" in text
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
    assert "Даша" not in json.dumps(report.as_json(made), ensure_ascii=False)
    data = report.pdf(replace(made, names=True))
    text, pages = printed(data, tmp_path)
    assert pages == 1
    assert "<b>Даша</b>" in text and "patient7/study1" in text
    assert "gpj.exe" in text and "\u202e" not in text
    assert "%PDF (\\)" in text


def test_a_refused_view_says_why_and_views_of_another_part_are_named(cascade, tmp_path):
    made = study(cascade, "a.png", "broken.png")
    text, _ = printed(report.pdf(made), tmp_path)
    assert "not assessed" in text and made.study.views[1].reason.split()[0] in text
    assert "1 of 2 views was not assessed." in text
    alone = study(cascade, "broken.png")
    text, pages = printed(report.pdf(alone), tmp_path)
    assert "Finding: not assessed" in text and pages == 1
    assert report.as_json(alone)["operating_point"] is None


def test_the_reader_s_decision_is_printed(cascade, tmp_path):
    decision = report.Decision(
        "Dr. Łukasiewicz",
        NOON,
        agrees=False,
        body_part=BodyPart.ELBOW,
        finding=Finding.NOT_SUSPECTED,
        comment="Old, healed. <script>",
        mark="0.1 0.2 0.3 0.4",
    )
    made = replace(study(cascade, "a.png"), decision=decision)
    text, pages = printed(report.pdf(made), tmp_path)
    assert pages == 1
    for words in ("Reader disagrees: Dr. Łukasiewicz, 2026-11-28", "elbow, finding not suspected"):
        assert words in text
    assert "Old, healed. <script>" in text and "Marked on view 1" in text
    record = json.loads(json.dumps(report.as_json(made)))
    assert record["decision"]["finding"] == "not_suspected"


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
    assert "sensitivity 44 % [33, 56], specificity 96 % [92, 99] on the test radiographs" in text
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
    assert main([*common, "--out", str(tmp_path / "a.json"), "--names"]) == 0
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["views"][0]["file"] == str(view)
    assert record["views"][0]["pixel_spacing_mm"] == [0.2, 0.1]
    assert record["views"][1]["status"] == "rejected"
    assert record["release"]["id"] == "random" and len(record["release"]["sha256"]) == 64
    with pytest.raises(SystemExit) as wrong:
        main([*common, "--out", str(tmp_path / "a.doc")])
    assert wrong.value.code == 2
    (tmp_path / "file").write_text("")
    assert main([*common, "--out", str(tmp_path / "file" / "a.pdf")]) == 1
    assert "cannot be written" in capsys.readouterr().err
