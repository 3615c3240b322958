"""Agreement of the release with the readers, and what the worklist gives to take away."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from core import agreement
from core.agreement import Figure, between_readers, kappa, wilson, with_readers
from core.origin import Origin
from core.store import Decision, Mark, Opinion, Status, StudyRecord, Verdict, export
from core.store.export import to_csv, to_manifest
from core.store.pictures import Pictures
from core.study import StudyResult, key_of
from core.types import (
    BodyPart,
    BodyPartPrediction,
    Finding,
    FracturePrediction,
    ImageResult,
    Photograph,
)
from tests.simulated import encoded, phantom
from training import metrics
from training.data import read

YES, NO, DOUBT = Finding.SUSPECTED, Finding.NOT_SUSPECTED, Finding.DOUBTFUL
NOW = datetime(2026, 11, 28, tzinfo=UTC)


def decided(reader: str, finding: Finding | None, **changes: object) -> Decision:
    verdict = changes.pop("verdict", Verdict.AGREE)
    opinion = Opinion(verdict, BodyPart.HAND, finding)
    return Decision(reader, 1, NOW, replace(opinion, **changes))


def seen(part: BodyPart, probability: float, side: str = "", sha256: str = "1" * 64) -> ImageResult:
    """A view that was taken for this part, and assessed unless it has no model."""
    fracture = FracturePrediction(probability, YES) if part != BodyPart.OTHER else None
    return ImageResult(
        "doe.png", sha256 or None, None if fracture else "No.", "r1", "1" * 64, 1.0,
        BodyPartPrediction(part, 0.9, {part: 0.9}), fracture, origin=Origin(side=side),
    )  # fmt: skip


def record(finding: Finding | None, *decisions: Decision, sha256: str = "") -> StudyRecord:
    views = (seen(BodyPart.HAND, 0.9, sha256=sha256),)
    result = StudyResult("x/patient7/study1", views, BodyPart.HAND, 0.9, finding)
    return StudyRecord(
        "s" * 32, result.id, "=Doe", NOW, "ann", Status.NEW, "r1", "1" * 64, "fracture", result,
        (bool(sha256),), decisions, decisions,
    )  # fmt: skip


def test_wilson_as_published() -> None:
    """Newcombe 1998, table I: 81/263 and the two ends."""
    figure = wilson(81, 263)
    assert (round(figure.low, 4), round(figure.high, 4)) == (0.2553, 0.3662)
    assert (wilson(0, 20).low, round(wilson(0, 20).high, 4)) == (0.0, 0.1611)
    assert math.isnan(wilson(0, 0).value)


def test_kappa_is_that_of_the_evaluation() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(200) < 0.4
    said = truth ^ (rng.random(200) < 0.2)
    figure = kappa(list(zip(said.tolist(), truth.tolist())))
    assert figure.value == pytest.approx(metrics.kappa(truth, said))
    boot = metrics.bootstrap(metrics.kappa, truth, said, [str(n) for n in range(200)])
    assert figure.low == pytest.approx(boot.low, abs=0.03)
    assert figure.high == pytest.approx(boot.high, abs=0.03)


def test_five_studies_that_agree_are_no_certainty() -> None:
    figure = kappa([(True, True)] * 3 + [(False, False)] * 2)
    assert figure.value == 1 and figure.high == 1 and figure.low < 0.6
    assert math.isnan(kappa([(True, True)] * 5).value)


def test_the_release_against_the_readers() -> None:
    records = [
        record(YES, decided("ann", YES), decided("bob", YES)),
        record(DOUBT, decided("ann", YES)),
        record(DOUBT, decided("ann", NO), decided("bob", YES)),  # readers differ
        record(NO, decided("ann", NO)),
        record(DOUBT, decided("ann", NO)),
        record(YES, decided("ann", DOUBT)),  # says neither
        record(YES, decided("ann", YES, verdict=Verdict.DRAFT)),
        record(None, decided("ann", YES)),
    ]
    found = {a.name: a for a in with_readers(records)}
    both = found["All readers, sensitive"]
    assert (both.sensitivity.value, both.sensitivity.n) == (1.0, 2)
    assert (both.specificity.value, both.specificity.n) == (0.5, 2)
    assert found["All readers, specific"].sensitivity.value == 0.5
    assert found["All readers, specific"].specificity.value == 1.0
    assert found["ann, sensitive"].specificity.n == 3
    assert found["bob, sensitive"].sensitivity.n == 2
    ((names, between),) = between_readers(records)
    assert names == "ann and bob" and between.n == 2


def test_readings_of_other_releases_are_counted_and_left_out() -> None:
    here = record(YES, decided("ann", YES))
    elsewhere = replace(
        record(NO, decided("ann", YES), decided("bob", NO), decided("cy", DOUBT)),
        release_sha256="2" * 64,
    )
    assert agreement.of_release([here, elsewhere], "1" * 64) == ([here], 2)  # doubtful is no call


def test_without_decisions_nothing_is_claimed() -> None:
    figures = with_readers([record(YES)])
    assert all(a.kappa.n == 0 and math.isnan(a.kappa.value) for a in figures)
    assert between_readers([]) == [] and isinstance(figures[0].kappa, Figure)
    assert len(figures) == len(agreement.POINTS)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_a_line_for_each_decision_and_no_formula() -> None:
    mark = Mark(0, 0.1, 0.2, 0.3, 0.4)
    first = decided("=ann", YES, comment="+SUM(A1)", marks=(mark,))
    found = rows(to_csv([record(YES, first, decided("bob", NO)), record(NO)], names=True))
    assert [r["reader"] for r in found] == ["'=ann", "bob", ""]
    assert found[0]["title"] == "'=Doe" and found[0]["comment"] == "'+SUM(A1)"
    assert found[0]["marks"] == "1: 0.1000 0.2000 0.3000 0.4000"
    assert found[2]["finding"] == "not_suspected" and found[2]["verdict"] == ""


def test_csv_names_nobody_unless_asked_to() -> None:
    decision = decided("ann", YES, comment="Jane Doe")
    assert "Doe" not in to_csv([record(YES, decision)], names=False)


def test_corrections_become_a_data_set(tmp_path: Path) -> None:
    """What the manifest lists is what ``training.data`` reads, pictures and all."""
    pictures = Pictures(tmp_path / "images")
    keys = [pictures.put(encoded(phantom(seed=n), "PNG")) for n in range(3)]
    mark = Mark(0, 0.1, 0.2, 0.3, 0.4)
    first = decided("ann", YES, marks=(mark,))
    records = [
        replace(record(NO, first, sha256=keys[0]), id="a" * 32),
        replace(record(NO, decided("ann", NO), decided("bob", YES), sha256=keys[1]), id="b" * 32),
        replace(record(YES, decided("ann", DOUBT), sha256=keys[2]), id="c" * 32, key="lone.png"),
        replace(record(YES, sha256=keys[2]), id="d" * 32),
    ]
    path = tmp_path / "download" / "corrections.csv"
    path.parent.mkdir()
    path.write_text(to_manifest(records, pictures), encoding="utf-8")
    found = read(f"manifest:{path}")
    assert list(found.part) == ["hand", "hand"]
    assert found.positive.iloc[0] == 1 and math.isnan(found.positive.iloc[1])
    assert list(found.patient) == ["reviewed/patient7", f"reviewed/{'c' * 32}"]
    assert found.boxes.iloc[0] == "0.1000 0.2000 0.3000 0.4000"
    assert found.positive_means.iloc[0] == "fracture"
    assert all(Path(p).is_file() for p in found.path)


def manifest(found: StudyRecord) -> list[dict[str, str]]:
    return rows(to_manifest([found], Pictures(Path("images"))))


def test_what_is_disputed_or_superseded_is_no_label() -> None:
    agreed = record(YES, decided("ann", YES), sha256="1" * 64)
    assert [r["positive"] for r in manifest(agreed)] == ["1"]
    asks = decided("bob", None, verdict=Verdict.SECOND_LOOK, body_part=None)
    assert not manifest(replace(agreed, decisions=(*agreed.decisions, asks)))
    wrote = decided("bob", None, verdict=Verdict.DRAFT, body_part=None, comment="later")
    assert manifest(replace(agreed, decisions=(*agreed.decisions, wrote)))
    older = replace(agreed, newer="n" * 32)
    assert not manifest(older)
    found = rows(to_csv([older, agreed], names=False))
    assert [r["superseded_by"] for r in found] == ["n" * 32, ""]


def test_boxes_are_on_the_picture_that_training_reads() -> None:
    """Which is a file's first frame, and the whole photograph."""
    marks = tuple(Mark(view, 0.4, 0.4, 0.6, 0.6) for view in range(3))
    found = record(YES, decided("ann", YES, marks=marks), sha256="1" * 64)
    (view,) = found.result.views
    film_in_it = Photograph(((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)))
    views = (
        replace(view, photograph=film_in_it),
        replace(view, origin=Origin(frame=1, frames=2)),
        replace(view, origin=Origin(frame=2, frames=2)),
    )
    found = replace(found, result=replace(found.result, views=views), stored=(True,) * 3)
    boxes = [[float(x) for x in r["boxes"].split()] for r in manifest(found)]
    assert len(boxes) == 2 and boxes[1] == [0.4, 0.4, 0.6, 0.6]
    assert boxes[0] == pytest.approx([0.45, 0.45, 0.55, 0.55], abs=0.002)


MIXED = (
    seen(BodyPart.HAND, 0.9, "L"),
    seen(BodyPart.HAND, 0.1, "R"),
    seen(BodyPart.ELBOW, 0.2),
    seen(BodyPart.OTHER, 0.0),
)


@pytest.mark.parametrize(
    ("views", "part", "told"),
    [
        (MIXED, BodyPart.HAND, [0]),  # of the side that the result is of
        (MIXED, BodyPart.ELBOW, [2]),
        (MIXED, BodyPart.OTHER, [3]),
        (MIXED, BodyPart.SHOULDER, []),  # which of them nobody knows
        (MIXED[:1] * 2, BodyPart.SHOULDER, [0, 1]),  # all were taken for something else
        (MIXED[:1] * 2, BodyPart.HAND, [0, 1]),
    ],
)
def test_only_what_the_readers_speak_of_is_labelled(
    views: tuple[ImageResult, ...], part: BodyPart, told: list[int]
) -> None:
    found = record(YES, decided("ann", YES, body_part=part))
    study = replace(found.result, views=views)
    lines = manifest(replace(found, result=study, stored=(True,) * len(views)))
    assert [int(line["id"].rpartition("_")[2]) for line in lines] == told
    assert {line["part"] for line in lines} <= {part}


@pytest.mark.parametrize(
    ("views", "part", "marked", "told"),
    [
        (MIXED, BodyPart.HAND, 1, {"0": "", "1": "1"}),  # the side that the result is not of
        (MIXED, BodyPart.HAND, 2, {"0": "", "1": "", "2": "1"}),  # taken for another part
        (MIXED, BodyPart.SHOULDER, 2, {"2": "1"}),
        (MIXED, BodyPart.HAND, 0, {"0": "1"}),
        (MIXED[:1] * 2, BodyPart.HAND, 1, {"0": "1"}),  # a copy is no other view
    ],
)
def test_a_finding_marked_elsewhere_is_said_of_what_is_marked(
    views: tuple[ImageResult, ...], part: BodyPart, marked: int, told: dict[str, str]
) -> None:
    views = tuple(replace(v, sha256=f"{1 + MIXED.index(v)}" * 64) for v in views)
    mark = Mark(marked, 0.1, 0.2, 0.3, 0.4)
    found = record(YES, decided("ann", YES, body_part=part, marks=(mark,)))
    study = replace(found.result, views=views)
    lines = manifest(replace(found, result=study, stored=(True,) * len(views)))
    assert {line["id"].rpartition("_")[2]: line["positive"] for line in lines} == told
    assert {line["part"] for line in lines} == {part}
    assert [n for n, line in zip(told, lines) if line["boxes"]] == [
        n for n in told if n == str(marked)
    ]
    refuted = replace(
        found, decisions=(decided("ann", NO, body_part=BodyPart.HAND, marks=(mark,)),)
    )
    lines = manifest(replace(refuted, result=study, stored=(True,) * len(views)))
    assert {line["positive"] for line in lines} == {"0"}  # what is marked is no finding


def test_marks_of_who_has_not_decided_are_no_boxes() -> None:
    mark = Mark(0, 0.1, 0.2, 0.3, 0.4)
    writes = decided("bob", None, verdict=Verdict.DRAFT, body_part=None, marks=(mark,))
    [line] = manifest(record(YES, decided("ann", YES), writes, sha256="1" * 64))
    assert (line["positive"], line["boxes"]) == ("1", "")


def test_one_patient_s_studies_are_one_group() -> None:
    """Or a study that came again would stand in training and in test."""

    def group(key: str, id_: str) -> str:
        return export._group(replace(record(YES), key=key, id=id_))

    one = key_of("a.dcm", "1.2.840.99.3", "ab12")
    assert group(one, "x") == group(one, "y") == group(key_of("b.dcm", "1.2.840.99.4", "ab12"), "z")
    assert group(one, "x") != group(key_of("a.dcm", "1.2.840.99.3", "cd34"), "x")
    assert group("1.2.840.99.3", "x") == group("1.2.840.99.3", "y") != group("1.2.840.99.4", "x")
    assert (group("images", "x"), group("images", "y")) == ("x", "y")
