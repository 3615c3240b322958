"""Grouping of views into studies, and what a study's views say together."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from core import imaging
from core.cascade import Cascade
from core.manifest import Release
from core.notes import is_caution, notes_of
from core.origin import RAW, Origin
from core.registry import Registry
from core.settings import ImageLimits
from core.study import StudyResult, combine, group, key_of, named, study_uid_of
from core.types import (
    NEARLY_ALL,
    BodyPart,
    BodyPartPrediction,
    Crop,
    Finding,
    FracturePrediction,
    Heatmap,
    ImageResult,
    MemberPrediction,
    OperatingPoint,
    Photograph,
)
from tests import simulated
from tests.simulated import phantom

HAND, ELBOW = BodyPart.HAND, BodyPart.ELBOW
_FILES = itertools.count()


@pytest.fixture(scope="module")
def release(weights: Path) -> Release:
    """Operating points of every part: sensitive at 0.3, specific at 0.7."""
    return Registry.open(weights).find("champion")


def view(
    probability: float | None,
    part: BodyPart = HAND,
    sure: float = 0.97,
    chosen: BodyPart | None = None,
    origin: Origin | None = None,
    digest: str = "",
) -> ImageResult:
    """digest: of its file; "" is one of its own."""
    finding = Finding.DOUBTFUL
    if probability is not None:
        finding = (
            Finding.SUSPECTED
            if probability >= 0.7
            else Finding.NOT_SUSPECTED
            if probability < 0.3
            else Finding.DOUBTFUL
        )
    return ImageResult(
        "a.png",
        digest or f"{next(_FILES):064x}",
        "Refused." if probability is None else None,
        "random",
        "1" * 64,
        1.0,
        BodyPartPrediction(part, sure, {part: sure}),
        None if probability is None else FracturePrediction(probability, finding),
        chosen=chosen,
        origin=origin or Origin(),
    )


def test_a_study_is_the_mean_of_its_views(release: Release) -> None:
    study = combine("s", [view(0.9), view(0.8), view(0.7)], release)
    assert study.probability == pytest.approx(0.8)
    assert (study.body_part, study.finding, study.notes) == (HAND, Finding.SUSPECTED, ())


@pytest.mark.parametrize(
    ("views", "finding"),
    [
        ((0.1, 0.2), Finding.NOT_SUSPECTED),
        ((0.29, 0.31), Finding.DOUBTFUL),
        ((0.5, 0.9), Finding.SUSPECTED),
    ],
)
def test_the_mean_meets_the_operating_points_of_the_part(
    release: Release, views: tuple[float, ...], finding: Finding
) -> None:
    assert combine("s", [view(p) for p in views], release).finding is finding


def test_views_of_another_part_are_left_out_and_said(release: Release) -> None:
    study = combine("s", [view(0.9), view(0.8), view(0.1, ELBOW)], release)
    assert study.probability == pytest.approx(0.85)
    assert len(study.counted) == 2 and len(study.views) == 3
    (note,) = study.notes
    assert note == (
        "The views name different body parts (hand suspected, 85 %, 2 views; elbow not suspected, "
        "10 %, 1 view). The result is that of the hand alone."
    )


def test_a_suspected_part_is_not_hidden_behind_another(release: Release) -> None:
    study = combine("s", [view(0.02), view(0.03), view(0.97, ELBOW, sure=0.6)], release)
    assert (study.body_part, study.finding, study.probability) == (ELBOW, Finding.SUSPECTED, 0.97)
    assert study.notes[1] == (
        "The views name different body parts (elbow suspected, 97 %, 1 view; hand not suspected, "
        "2 %, 2 views). The result is that of the elbow alone."
    )
    doubtful = combine("s", [view(0.1), view(0.1), view(0.5, ELBOW)], release)
    assert (doubtful.body_part, doubtful.finding) == (ELBOW, Finding.DOUBTFUL)


def test_of_equal_findings_more_views_decide_then_the_surer_part(release: Release) -> None:
    study = combine("s", [view(0.75), view(0.75), view(0.97, ELBOW)], release)
    assert (study.body_part, study.probability) == (HAND, 0.75)
    study = combine("s", [view(0.2, sure=0.6), view(0.1, ELBOW, sure=0.99)], release)
    assert (study.body_part, study.probability) == (ELBOW, 0.1)


def test_a_body_part_that_stage_1_is_not_sure_of_is_to_be_checked(release: Release) -> None:
    study = combine("s", [view(0.9, sure=0.83), view(0.9, sure=0.71)], release)
    assert study.notes == (
        "Please check the body part: the program is not sure that this is the hand (83 %).",
    )
    assert combine("s", [view(0.9, sure=0.83), view(0.9)], release).notes == ()  # one view is
    chosen = [view(0.9, sure=0.83, chosen=HAND), view(0.9, sure=0.71, chosen=HAND)]
    assert combine("s", chosen, release).notes == ()
    assert combine("s", [view(None, sure=0.5)], release).notes == ()


def test_a_part_chosen_by_the_reader_is_certain(release: Release) -> None:
    first, second = view(0.1, ELBOW, sure=0.99), view(0.2, ELBOW, sure=1.0, chosen=HAND)
    assert second.part == HAND
    assert combine("s", [first, second], release).body_part == HAND


def test_views_that_disagree_are_counted_in_words(release: Release) -> None:
    study = combine("s", [view(0.95), view(0.1), view(0.1)], release)
    assert study.finding is Finding.DOUBTFUL
    assert study.notes == ("The views disagree: suspected 1, not suspected 2.",)


def test_refused_views_are_kept_and_counted(release: Release) -> None:
    study = combine("s", [view(None), view(0.9)], release)
    assert study.probability == 0.9 and len(study.views) == 2
    assert study.notes == ("1 of 2 views was not assessed.",)


def test_nothing_assessed_says_nothing(release: Release) -> None:
    study = combine("s", [view(None)], release)
    assert (study.body_part, study.probability, study.finding) == (None, None, None)
    assert study.notes == () and study.views[0].reason
    assert combine("s", [], release).notes == ()


def test_the_cascade_says_which_part_the_reader_chose(cascade: Cascade) -> None:
    radiograph = imaging.decode(simulated.encoded(phantom(), "PNG"), "a.png", ImageLimits())
    assert cascade.predict([radiograph])[0].chosen is None
    (asked,) = cascade.predict([radiograph], ELBOW)
    assert asked.chosen == asked.part == ELBOW


MURA = "MURA-v1.1/valid/XR_ELBOW/patient00011/study1_{}/image{}.png"


def test_mura_names_are_grouped_without_their_label() -> None:
    keys = {key_of(MURA.format(label, n)) for label in ("negative", "positive") for n in (1, 2)}
    assert keys == {"MURA-v1.1/valid/XR_ELBOW/patient00011/study1"}
    assert key_of(MURA.replace("ELBOW", "HAND").format("negative", 1)) not in keys
    assert key_of("patient3_study2_image1.png") == key_of("patient3_study2_image2.png")
    assert key_of("patient3/study1/a.png") != key_of("patient3/study12/a.png")


def test_the_study_uid_comes_first_and_nonsense_is_no_uid() -> None:
    assert key_of("one/a.dcm", "1.2.3") == key_of("two/b.dcm", " 1.2.3 ") == "1.2.3"
    assert key_of("one/a.dcm", "no uid") == "one"


@pytest.mark.parametrize(
    ("name", "is_uid"),
    [
        ("1.2.840.99.1", True),
        ("2.999.0.0.1", True),
        ("0.39.1.2.3", True),
        ("2.25." + "329800735698586629295641978511506172918", True),  # a UUID, PS3.5 B.2
        ("05.12.2026", False),
        ("5.12.2026", False),
        ("2026.12.05", False),
        ("2026.12.05.14.30", False),
        ("2.11.2026", False),
        ("2.25.2026", False),
        ("3.1", False),
        ("1.2.840", False),
        ("1.2.03.4.5", False),
        ("1.40.1.2.3", False),
        ("3.2.840.99.1", False),
        ("1.2.840.99.", False),
        ("1.2.840.99." + "1" * 54, False),
    ],
)
def test_what_a_folder_is_called_is_no_study_uid_unless_it_can_be_nothing_else(
    name: str, is_uid: bool
) -> None:
    """Else one patient's files would take the place of another's."""
    assert study_uid_of(key_of(f"{name}/a.png")) == name * is_uid


def test_a_study_uid_of_a_file_that_names_a_patient_may_be_any() -> None:
    """Devices write zeros in front."""
    assert study_uid_of(key_of("x/a.dcm", "1.2.03.4", "ab12")) == "1.2.03.4"


def test_a_folder_is_a_study_and_a_lone_file_too() -> None:
    assert key_of("x/y/a.png") == key_of("x\\y\\b.png") == "x/y"
    assert key_of("a.png") == "a.png" != key_of("b.png")


def test_grouping_keeps_the_order() -> None:
    assert group(["b", "a", "b", "c"]) == [[0, 2], [1], [3]]


def test_a_dicom_file_names_its_study() -> None:
    data = simulated.dicom(phantom(bits=12), StudyInstanceUID="1.2.840.99")
    assert imaging.decode(data, "a.dcm", ImageLimits()).study_uid == "1.2.840.99"
    assert imaging.decode(simulated.encoded(phantom(), "PNG"), "a", ImageLimits()).study_uid is None


def test_both_sides_are_not_averaged_with_each_other(release: Release) -> None:
    left, right = Origin("L"), Origin("R")
    views = [view(0.9, origin=left), view(0.05, origin=right), view(0.8, origin=left)]
    study = combine("s", views, release)
    assert study.probability == pytest.approx(0.85) and study.finding is Finding.SUSPECTED
    assert study.counted == (views[0], views[2]) and named(study) == "hand, left"
    assert (
        "Views of both sides (left suspected, 85 %; right not suspected, 5 %). The result is that "
        "of the left side alone."
    ) in study.notes
    one = combine("s", views[:1], release)
    assert named(one) == "hand, left" and one.notes == ()


def test_a_suspected_side_is_not_hidden_behind_a_doubtful_one(release: Release) -> None:
    """Networks that contradict each other make a side doubtful, whatever its mean."""
    torn = (MemberPrediction("ResNet50", 0.99, 0.5), MemberPrediction("Other", 0.02, 0.5))
    doubtful = dataclasses.replace(
        view(0.8, origin=Origin("L")), fracture=FracturePrediction(0.8, Finding.DOUBTFUL, torn)
    )
    suspected = view(0.75, origin=Origin("R"))
    study = combine("s", [doubtful, suspected], release)
    assert (study.finding, study.probability) == (Finding.SUSPECTED, 0.75)
    assert study.counted == (suspected,) and study.side == "R" and study.members == ()
    assert study.notes == (
        "Views of both sides (left doubtful, 80 %; right suspected, 75 %). The result is that of "
        "the right side alone.",
        "The networks contradict each other on view 1 (ResNet50 99 %, Other 2 %), so the finding "
        "of that view is doubtful.",
    )


def test_a_view_that_names_no_side_counts_on_either(release: Release) -> None:
    views = [view(0.8, origin=Origin("R")), view(0.2, origin=Origin("L")), view(0.6)]
    study = combine("s", views, release)
    assert study.probability == pytest.approx(0.7) and study.counted == (views[0], views[2])


def test_what_a_file_warns_of_is_said_of_the_study(release: Release) -> None:
    raw = Origin(cautions=("Raw data.",))
    both = [view(0.9, origin=raw), view(0.9, origin=raw)]
    assert combine("s", both, release).notes == ("Raw data.",)
    assert combine("s", [view(0.9), view(0.9, origin=raw)], release).notes == ("View 2: Raw data.",)
    refused = view(None, BodyPart.OTHER, origin=raw)
    assert combine("s", [refused], release).notes == ("Raw data.",)


def test_frames_that_nobody_looked_at_are_counted(release: Release) -> None:
    file = "f" * 64
    seen = [view(0.9, origin=Origin(frame=n, frames=40), digest=file) for n in (1, 2, 3)]
    [note] = combine("s", seen, release).notes
    assert note == "Of a file with 40 frames 3 were assessed."
    [note] = combine("s", seen[:1], release).notes
    assert note == "Of a file with 40 frames 1 was assessed."
    copies = [view(0.9, origin=Origin(frames=3))] * 3  # of one file, each looked at once
    note = combine("s", copies, release).notes[0]
    assert note == "Of a file with 3 frames 1 was assessed."
    whole = [view(0.9, origin=Origin(frame=n, frames=2), digest=file) for n in (1, 2)]
    assert combine("s", whole, release).notes == ()


def test_the_sounder_side_does_not_say_which_part_it_is(release: Release) -> None:
    """What is sure of the part is a view that does not count."""
    views = [view(0.9, sure=0.8, origin=Origin("L")), view(0.1, sure=0.99, origin=Origin("R"))]
    assert combine("s", views, release).notes[0].startswith("Please check the body part")


def test_a_picture_that_is_there_twice_counts_once(release: Release) -> None:
    first, other = view(0.9, digest="a" * 64), view(0.1)
    copy = dataclasses.replace(first, file="copy.png")
    study = combine("s", [first, copy, other], release)
    assert study.probability == pytest.approx(0.5) and study.counted == (first, other)
    assert "View 2 is the same picture as view 1 and is not counted again." in study.notes
    frames = [view(p, origin=Origin(frame=n), digest="b" * 64) for n, p in ((1, 0.9), (2, 0.8))]
    assert len(combine("s", frames, release).counted) == 2
    refused = view(None, digest="a" * 64)
    assert combine("s", [refused, first], release).counted == (first,)


def torn() -> ImageResult:
    """A view that the networks contradict each other on."""
    said = (MemberPrediction("ResNet50", 0.97, 0.5), MemberPrediction("Other", 0.03, 0.5))
    return dataclasses.replace(view(0.6), fracture=FracturePrediction(0.6, Finding.DOUBTFUL, said))


def test_raw_detector_data_does_not_count_beside_the_picture_of_it(release: Release) -> None:
    left, right = Origin("L"), Origin("R", cautions=(RAW,))
    raw = view(0.1, origin=Origin("L", cautions=(RAW,)))
    study = combine("s", [raw, view(0.9, origin=left)], release)
    assert study.probability == pytest.approx(0.9) and len(study.counted) == 1
    assert "View 1 is raw detector data and is not counted" in " ".join(study.notes)
    for others in ([], [view(0.05, ELBOW)], [view(0.05, origin=right)]):  # what nothing else shows
        study = combine("s", [view(0.95, origin=raw.origin), *others], release)
        assert study.probability == pytest.approx(0.95)
    another = dataclasses.replace(raw, sha256="b" * 64)  # projection, of which there is no picture
    study = combine("s", [raw, another, view(0.9, origin=left)], release)
    assert len(study.counted) == 3 and "not counted" not in " ".join(study.notes)
    stored = dataclasses.replace(study, views=(raw, view(0.9)), probability=0.5)
    assert len(stored.counted) == 2  # of an older rule


def test_one_view_alone_says_why_it_is_doubtful(release: Release) -> None:
    said = (
        "The networks contradict each other (ResNet50 97 %, Other 3 %), so the finding is doubtful."
    )
    assert notes_of(torn(), release) == (said,) == combine("s", [torn()], release).notes
    assert notes_of(torn(), None) == ()  # by whose operating points nobody knows
    calm = view(0.2)
    study = combine("s", [torn(), calm], release)
    assert any("on view 1 (ResNet50 97 %, Other 3 %)" in note for note in study.notes)


def test_a_half_that_decides_is_said(release: Release) -> None:
    stage = dataclasses.replace(release.stages[HAND], operating_points=())
    bare = dataclasses.replace(release, stages={**release.stages, HAND: stage})
    said = (
        "This release has no sensitive and specific operating point for the hand: the "
        "threshold is 50 %, which was never measured."
    )
    assert notes_of(view(0.6), bare) == (said,) == combine("s", [view(0.6)], bare).notes
    balanced = OperatingPoint("balanced", 0.4, 0.8, 0.7, 40)  # stands in the report beside it
    stage = dataclasses.replace(stage, operating_points=(balanced,))
    one = dataclasses.replace(release, stages={**release.stages, HAND: stage})
    assert combine("s", [view(0.6)], one).notes == (said,)
    assert notes_of(view(0.6, ELBOW), bare) == ()


def test_what_was_cut_off_is_said(release: Release) -> None:
    def seen(*edges: float) -> ImageResult:
        heatmap = Heatmap(np.zeros((2, 2), np.float32), "Grad-CAM", Crop(*edges))
        return dataclasses.replace(view(0.9), heatmap=heatmap)

    most, part = seen(0.0, 0.0, 0.96, 0.98), seen(0.05, 0.2, 0.8, 0.9)
    assert notes_of(most, release) == ()
    assert notes_of(part, release) == ("Cropped to the limb before it was read.",)
    [note] = combine("s", [most, part], release).notes
    assert note == "Cropped to the limb before it was read: view 2." and not is_caution(note)
    assert is_caution("View 2 is raw detector data.")


def test_a_film_that_was_not_found_is_not_said_to_be_cut_out(release: Release) -> None:
    guessed = dataclasses.replace(view(0.9), photograph=Photograph(NEARLY_ALL))
    [note] = notes_of(guessed, release)
    assert "no film was clearly found" in note and "cut out" not in note
    found = dataclasses.replace(view(0.9), photograph=Photograph(((0, 0), (1, 0), (1, 1), (0, 1))))
    first, second = combine("s", [guessed, found], release).notes
    assert "(1 of 2 views): the film was cut out" in first and "no film" in second


def test_two_films_of_one_photograph_are_two_pictures(release: Release) -> None:
    """Of a light box, dropped under two names with two sets of corners."""

    def film(probability: float, left: float) -> ImageResult:
        edges = ((left, 0.0), (left + 0.5, 0.0), (left + 0.5, 1.0), (left, 1.0))
        taken = view(probability, digest="a" * 64)
        return dataclasses.replace(taken, photograph=Photograph(edges))

    sound, broken = film(0.02, 0.0), film(0.98, 0.5)
    study = combine("s", [sound, broken, broken], release)
    assert study.counted == (sound, broken) and study.finding is Finding.DOUBTFUL
    assert [n for n in study.notes if "same picture" in n] == [
        "View 3 is the same picture as view 2 and is not counted again."
    ]


def test_a_stored_result_counts_by_the_rule_that_it_was_made_by(release: Release) -> None:
    """When a picture that is there twice counted twice, another side may have led."""
    twice = [view(0.9, origin=Origin("L"), digest="a" * 64) for _ in range(2)]
    sound, right = view(0.0, origin=Origin("L")), view(0.58, origin=Origin("R"))
    old = StudyResult("s", (*twice, sound, right), HAND, 0.6, Finding.DOUBTFUL)
    assert old.counted == (*twice, sound) and named(old) == "hand, left"
    today = combine("s", old.views, release)
    assert today.counted == (right,) and named(today) == "hand, right"
    alike = StudyResult("s", tuple(twice), HAND, 0.9, Finding.SUSPECTED)
    assert alike.counted == (twice[0],)  # both fit: as today


def test_a_contradiction_is_said_once(release: Release) -> None:
    one = torn()
    study = combine("s", [one, dataclasses.replace(one, file="copy.png"), view(None)], release)
    said = [note for note in study.notes if "contradict" in note]
    assert said == [
        "The networks contradict each other (ResNet50 97 %, Other 3 %), so the finding is doubtful."
    ]
    other = dataclasses.replace(torn(), body_part=view(0.6, ELBOW).body_part)
    study = combine(
        "s", [one, dataclasses.replace(one, file="copy.png"), other, view(0.2)], release
    )
    [note] = [note for note in study.notes if "contradict" in note]
    assert "on view 1 (" in note and "view 3 (" in note and "view 2" not in note


def test_a_probability_near_a_threshold_is_told_from_it_in_each_sentence(release: Release) -> None:
    """Not suspected below 30 %, suspected from 70 % on."""
    near = 0.2996
    sides = [view(near, origin=Origin("L")), view(0.1, origin=Origin("R"))]
    assert "left not suspected, 29.96 %" in combine("s", sides, release).notes[0]
    parts = [view(near), view(0.1, ELBOW)]
    assert "hand not suspected, 29.96 %, 1 view" in combine("s", parts, release).notes[0]
    said = (MemberPrediction("ResNet50", 0.97, 0.5), MemberPrediction("Other", near, 0.5))
    fracture = FracturePrediction(0.6, Finding.DOUBTFUL, said)
    one = dataclasses.replace(view(0.6), fracture=fracture)
    assert "Other 29.96 %" in combine("s", [one], release).notes[0]


@pytest.mark.parametrize(
    ("sensitivity", "low", "high", "said"),
    [
        (0.75, 0.55, 0.93, True),
        (0.75, 0.55, 0.95, False),  # the interval reaches what the point was chosen for
        (0.97, 0.90, 1.00, False),
        (0.75, None, None, False),  # too few to say
    ],
)
def test_that_many_positives_are_not_suspected_is_said_where_it_was_measured(
    release: Release, sensitivity: float, low: float | None, high: float | None, said: bool
) -> None:
    def figure(
        metric: str, value: float, low: float | None, high: float | None
    ) -> dict[str, object]:
        where = {"stage": "fracture", "part": "hand", "source": "all", "level": "image"}
        return {**where, "metric": metric, "value": value, "low": low, "high": high, "n": 64}

    figures = [
        figure("sensitivity (sensitive)", sensitivity, low, high),
        figure("specificity (sensitive)", 0.75, 0.59, 0.89),
    ]
    measured = dataclasses.replace(release, metrics={"split": "test", "figures": figures})
    note = (
        "“Not suspected” does not rule out a finding: of the positive hand radiographs that "
        "the release was measured on, 25 % [7, 45] were below the threshold, too."
    )
    wanted = (note,) if said else ()
    assert combine("s", [view(0.1)], measured).notes == wanted
    assert notes_of(view(0.1), measured) == wanted
    for other in (view(0.9), view(0.5), view(0.1, part=ELBOW)):  # not of this finding, nor part
        assert combine("s", [other], measured).notes == notes_of(other, measured) == ()
