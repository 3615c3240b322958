"""Final reports: what readers decide goes to the archive under their names, and only that."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from sqlalchemy import delete

from core.cascade import Cascade
from core.dicom_out.reading import person_name
from core.dicom_out.source import Assessment
from core.errors import WeightsInvalid
from core.pacs import signing
from core.pacs.inbox import Inbox
from core.pacs.outbox import Outbox
from core.pacs.scoring import StudyScorer, teller
from core.pacs.service import score_one
from core.pacs.signing import Signing
from core.pipeline import diagnose
from core.settings import ImageLimits, Settings
from core.store import Mark, Opinion, Store, StudyRecord, Verdict, tables
from core.study import combine, key_of
from core.types import BodyPart, Finding
from tests.listening import sent
from tests.simulated import dicom, phantom
from tests.test_dicom_out import problems, several_frames

LIMITS = ImageLimits()
ELBOW = Path(__file__).parent.parent / "samples" / "elbow_lateral_124.dcm"
TO = "PACS@127.0.0.1:104"
AGREE = Opinion(Verdict.AGREE)


class Hospital:
    """A listener's parts, and the archive as a list of what it was sent."""

    def __init__(self, cascade: Cascade, home: Path) -> None:
        self.home, self.cascade = home, cascade
        self.store = Store.open(Settings(home=home))
        self.inbox, self.outbox = Inbox(home / "inbox"), Outbox(home / "outbox")
        self.signing = self.started()

    def started(self) -> Signing:
        release = self.cascade.release
        return Signing(
            self.store,
            self.outbox,
            LIMITS,
            [TO],
            "Clinic",
            self.home / "signed.jsonl",
            lambda name, sha: release if (name, sha) == (release.id, release.sha256) else None,
        )

    def arrives(self, data: bytes, uid: str = "1.2.3", name: str = "a.dcm") -> str:
        """Scored, and its preliminary objects sent; the id on the worklist."""
        self.inbox.put(uid, name, data, instead=True)
        scorer = StudyScorer(self.cascade, self.store, self.outbox, LIMITS, [TO])
        for study in self.inbox.due(0):
            assert score_one(self.inbox, scorer, study)
        return self.store.worklist()[0].id

    def sent(self) -> dict[str, Dataset]:
        """What waits, by what it is; then it is gone."""
        found: dict[str, Dataset] = {}

        def send(_: str, items: list[bytes]) -> list[bool]:
            for data in items:
                read = pydicom.dcmread(io.BytesIO(data))
                found[f"{read.Modality} {read.get('VerificationFlag', '')}".strip()] = read
            return [True] * len(items)

        sent(self.outbox, send, teller(self.store))
        return found

    def later(self) -> int:
        return self.signing.poll(datetime.now(UTC) + timedelta(minutes=2))


@pytest.fixture
def hospital(cascade: Cascade, tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(cascade, tmp_path)
    yield made
    made.store.close()


def names(report: Dataset) -> list[str]:
    return [str(o.VerifyingObserverName) for o in report.VerifyingObserverSequence]


def items(report: Dataset, meaning: str) -> list[Dataset]:
    return [
        e
        for e in walk(report)
        if "ConceptNameCodeSequence" in e and e.ConceptNameCodeSequence[0].CodeMeaning == meaning
    ]


def walk(item: Dataset) -> Iterator[Dataset]:
    yield item
    for child in item.get("ContentSequence", []):
        yield from walk(child)


def test_a_decision_is_sent_as_a_final_report(hospital: Hospital, tmp_path: Path) -> None:
    study = hospital.arrives(ELBOW.read_bytes())
    preliminary = hospital.sent()["SR UNVERIFIED"]
    assert hospital.later() == 0 and not hospital.sent()
    opinion = Opinion(
        Verdict.DISAGREE, BodyPart.HAND, Finding.DOUBTFUL, "Look.", (Mark(0, 0.1, 0.2, 0.3, 0.4),)
    )
    hospital.store.decide(study, "Rita Reader", opinion, 0)
    assert hospital.signing.poll() == 0  # it may still be undone
    assert hospital.later() == 1
    sent = hospital.sent()
    report = sent.pop("SR VERIFIED")
    assert report.PreliminaryFlag == "FINAL" and report.CompletionFlag == "COMPLETE"
    assert report.SeriesDescription == f"{preliminary.SeriesDescription}, signed"
    assert names(report) == ["Rita Reader^"]
    assert report.VerifyingObserverSequence[0].VerifyingOrganization == "Clinic"
    assert report.StudyInstanceUID == pydicom.dcmread(ELBOW).StudyInstanceUID
    [before] = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    assert before.SeriesInstanceUID == preliminary.SeriesInstanceUID
    [instance] = before.ReferencedSOPSequence
    assert instance.ReferencedSOPInstanceUID == preliminary.SOPInstanceUID
    [comment] = items(report, "Comment")
    assert comment.TextValue == "Look."
    findings = [i.ConceptCodeSequence[0].CodeValue for i in items(report, "Finding")]
    assert findings[-2:] == ["doubtful", "doubtful"]  # the reader's, and on the mark
    rows, columns = pydicom.dcmread(ELBOW).pixel_array.shape
    [mark] = [i for i in walk(report) if i.get("GraphicType")][-1:]
    box = np.array(mark.GraphicData).reshape(-1, 2)
    np.testing.assert_allclose(box.min(0), [0.1 * columns, 0.2 * rows], atol=0.06)
    np.testing.assert_allclose(box.max(0), [0.3 * columns, 0.4 * rows], atol=0.06)
    assert list(sent) == ["DOC VERIFIED"]
    assert b"%PDF" in sent["DOC VERIFIED"].EncapsulatedDocument[:8]
    if shutil.which("dciodvfy"):
        for item in (report, sent["DOC VERIFIED"]):
            file = io.BytesIO()
            item.save_as(file)
            assert problems(file.getvalue(), tmp_path) == []


def test_it_is_sent_once_and_after_a_restart_not_again(hospital: Hospital) -> None:
    study = hospital.arrives(ELBOW.read_bytes())
    hospital.store.decide(study, "Rita", AGREE, 0)
    assert hospital.later() == 1 and hospital.later() == 0
    hospital.signing = hospital.started()
    assert hospital.later() == 0
    with hospital.signing.sent.open("a") as file:
        file.write('{"study": "cut sho')
    assert hospital.started().poll() == 0


def test_weights_that_are_away_for_a_moment_delay_a_report(hospital: Hospital, caplog) -> None:
    study = hospital.arrives(ELBOW.read_bytes())
    hospital.sent()
    hospital.store.decide(study, "ann", AGREE, 0)
    found = hospital.signing.release_of

    def away(*_: str) -> None:
        raise WeightsInvalid("The manifest is not there.")

    hospital.signing.release_of = away
    assert [hospital.later(), hospital.later()] == [0, 0]
    assert caplog.text.count("waits to be reported. The manifest is not there.") == 1
    hospital.signing.release_of = found
    assert hospital.later() == 1 and "SR VERIFIED" in hospital.sent()


def test_a_share_that_is_away_for_a_moment_delays_a_report(hospital: Hospital, caplog) -> None:
    study = hospital.arrives(ELBOW.read_bytes())
    hospital.sent()
    hospital.store.decide(study, "ann", AGREE, 0)
    pictures = hospital.home / "images"
    pictures.rename(hospital.home / "away")
    assert [hospital.later(), hospital.later()] == [0, 0]
    assert caplog.text.count("waits to be reported. The picture of this study") == 1
    (hospital.home / "away").rename(pictures)
    assert hospital.later() == 1 and "SR VERIFIED" in hospital.sent()


def test_a_picture_that_is_lost_for_good_is_told_once(hospital: Hospital, caplog) -> None:
    study = hospital.arrives(ELBOW.read_bytes())
    hospital.store.decide(study, "ann", AGREE, 0)
    [picture] = (p for p in (hospital.home / "images").glob("*/*") if p.is_file())
    picture.write_bytes(b"damaged")
    assert [hospital.later(), hospital.later()] == [0, 0]
    assert caplog.text.count("is not reported: its pictures cannot be read again") == 1
    assert "waits to be reported" not in caplog.text


def test_after_an_undo_only_the_next_decision_is_sent(hospital: Hospital) -> None:
    study = hospital.arrives(ELBOW.read_bytes())
    hospital.store.decide(study, "Rita", AGREE, 0)
    hospital.store.undo(study, "Rita", 1)
    assert hospital.later() == 0
    hospital.store.decide(study, "Rita", AGREE, 2)
    assert hospital.later() == 1
    first = hospital.sent()["SR VERIFIED"]
    hospital.store.decide(study, "Rita", Opinion(Verdict.DISAGREE), 3)
    assert hospital.later() == 0  # with what, Rita has not said yet
    other = Opinion(Verdict.DISAGREE, finding=Finding.DOUBTFUL)
    hospital.store.decide(study, "Rita", other, 4)
    assert hospital.later() == 1
    second = hospital.sent()["SR VERIFIED"]
    assert second.SOPInstanceUID != first.SOPInstanceUID
    [before] = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    assert before.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_readers_sign_together_or_not_at_all(hospital: Hospital) -> None:
    study = hospital.arrives(ELBOW.read_bytes())
    hospital.store.decide(study, "Rita", AGREE, 0)
    hospital.store.decide(study, "Ruben", Opinion(Verdict.DISAGREE), 0)
    assert hospital.later() == 0  # they say different things
    hospital.store.decide(study, "Ruben", AGREE, 1)
    assert hospital.later() == 1
    assert names(hospital.sent()["SR VERIFIED"]) == ["Rita^", "Ruben^"]


@pytest.mark.parametrize("again", [False, True], ids=["the same process", "after a restart"])
@pytest.mark.parametrize(("gone", "left"), [("Rita", "Ruben"), ("Ruben", "Rita")])
def test_who_withdraws_does_not_stand_for_it_any_more(
    hospital: Hospital, gone: str, left: str, again: bool
) -> None:
    """The earlier reader, too: the newest decision is then the one that it was."""
    study = hospital.arrives(ELBOW.read_bytes())
    hospital.store.decide(study, "Rita", AGREE, 0)
    hospital.store.decide(study, "Ruben", AGREE, 0)
    assert hospital.later() == 1
    first = hospital.sent()["SR VERIFIED"]
    if again:
        hospital.signing = hospital.started()
    hospital.store.undo(study, gone, 1)
    assert hospital.signing.poll() == 0  # it may still be decided once more
    assert hospital.later() == 1 and hospital.later() == 0
    report = hospital.sent()["SR VERIFIED"]
    assert names(report) == [f"{left}^"]
    [before] = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    assert before.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_who_withdraws_to_a_draft_may_decide_once_more(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(minutes=2)

    study = hospital.arrives(ELBOW.read_bytes())
    hospital.store.decide(study, "Rita", AGREE, 0)
    hospital.store.decide(study, "Ruben", Opinion(Verdict.DRAFT, comment="Look."), 0)
    hospital.store.decide(study, "Ruben", AGREE, 1)
    assert hospital.later() == 1 and hospital.sent()
    monkeypatch.setattr("core.store.store.datetime", Later)
    hospital.store.undo(study, "Ruben", 2)
    assert hospital.later() == 0
    assert hospital.signing.poll(datetime.now(UTC) + timedelta(minutes=4)) == 1
    assert names(hospital.sent()["SR VERIFIED"]) == ["Rita^"]


def test_lines_of_an_older_version_tell_by_their_time(hospital: Hospital) -> None:
    study = hospital.arrives(ELBOW.read_bytes())
    hospital.store.decide(study, "Rita", AGREE, 0)
    assert hospital.later() == 1
    line = json.loads(hospital.signing.sent.read_text())
    assert line.pop("decisions") == [["Rita", 1]]
    hospital.signing.sent.write_text(json.dumps(line) + "\n")
    hospital.signing = hospital.started()
    assert hospital.later() == 0
    hospital.store.decide(study, "Ruben", AGREE, 0)
    assert hospital.later() == 1


def test_after_a_restore_what_is_decided_anew_is_signed(hospital: Hospital) -> None:
    """The decision that was signed is not in the backup; the next one has its number."""
    study = hospital.arrives(ELBOW.read_bytes())
    hospital.store.decide(study, "Rita", AGREE, 0)
    assert hospital.later() == 1
    first = hospital.sent()["SR VERIFIED"]
    with hospital.store._database.writing() as (session, _):
        session.execute(delete(tables.Decision))
    hospital.signing = hospital.started()
    hospital.store.decide(study, "Rita", Opinion(Verdict.DISAGREE, finding=Finding.DOUBTFUL), 0)
    assert hospital.later() == 1 and hospital.later() == 0
    assert named(hospital.sent()["SR VERIFIED"]) == first.SOPInstanceUID


def named(report: Dataset) -> str:
    """The report that it names as the one before it."""
    [before] = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    return str(before.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)


@pytest.mark.parametrize("patient", ["P-1", "P-2"])
def test_a_report_names_that_of_the_study_whose_place_its_own_took(
    hospital: Hospital, patient: str
) -> None:
    """But none of another patient; and it says which radiographs are not in it."""
    data = {n: instance(n, "P-1") for n in "12"}
    hospital.inbox.put("1.2.3", "1.2.840.99.1.2.dcm", data["2"], instead=True)
    first = hospital.arrives(data["1"], name="1.2.840.99.1.1.dcm")
    hospital.store.decide(first, "Rita", AGREE, 0)
    assert hospital.later() == 1
    signed = hospital.sent()["SR VERIFIED"]
    hospital.inbox = Inbox(hospital.home / "a week later")
    hospital.arrives(instance("1", patient, date="20200101"), name="1.2.840.99.1.1.dcm")
    [newer] = {e.id for e in hospital.store.worklist()} - {first}
    assert hospital.store.study(newer).older == (first,)
    hospital.store.decide(newer, "Rita", AGREE, 0)
    preliminary = hospital.sent()["SR UNVERIFIED"]
    assert hospital.later() == 1
    report = hospital.sent()["SR VERIFIED"]
    before = signed if patient == "P-1" else preliminary
    assert named(report) == before.SOPInstanceUID
    lacks = "1 radiograph of the study that this one replaced is not in it."
    assert lacks in report.to_json() and lacks not in preliminary.to_json()


def instance(number: str, patient: str, date: str = "") -> bytes:
    header, file = pydicom.dcmread(ELBOW), io.BytesIO()
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = f"1.2.840.99.1.{number}"
    header.PatientID, header.StudyDate = patient, date
    header.save_as(file)
    return file.getvalue()


def test_what_its_reader_replaced_is_not_signed_once_the_listener_brings_it(
    hospital: Hospital,
) -> None:
    data, key = ELBOW.read_bytes(), key_of("doe.dcm", "1.2.3")
    for part in (None, BodyPart.SHOULDER):
        result = diagnose(hospital.cascade, data, "doe.dcm", LIMITS, part)[1]
        study = combine(key, [result], hospital.cascade.release)
        pictures = {str(result.sha256): data}
        added = hospital.store.add_study("doe", study, hospital.cascade.release, pictures, "Rita")
        hospital.store.decide(added, "Rita", AGREE, 0)
    hospital.arrives(data)
    [received] = [e for e in hospital.store.worklist() if e.received]
    assert received.newer == added and hospital.later() == 0


@pytest.mark.parametrize("how", ["taken back", "contradicted", "just now"])
def test_what_was_decided_otherwise_since_the_list_was_read(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    study = hospital.arrives(ELBOW.read_bytes())
    hospital.sent()
    store, read = hospital.store, hospital.store.study
    store.decide(study, "Rita", AGREE, 0)
    limit = datetime.now(UTC) + timedelta(seconds=60)  # of the poll: Rita's decision is old enough

    def meanwhile(wanted: str) -> StudyRecord:
        monkeypatch.undo()
        if how == "taken back":
            store.undo(study, "Rita", 1)
        elif how == "contradicted":
            store.decide(study, "Ruben", Opinion(Verdict.DISAGREE, finding=Finding.DOUBTFUL), 0)
        else:
            monkeypatch.setattr("core.store.store.datetime", Ahead)
            store.decide(study, "Rita", AGREE, 1)
        return read(wanted)

    class Ahead(datetime):
        @classmethod
        def now(cls, tz=None):
            return limit + timedelta(seconds=1)

    monkeypatch.setattr(store, "study", meanwhile)
    assert hospital.later() == 0 and not hospital.sent()
    monkeypatch.undo()
    seen = {"taken back": ("Rita", 2), "contradicted": ("Ruben", 1), "just now": ("Rita", 2)}
    store.decide(study, seen[how][0], AGREE, seen[how][1])
    assert hospital.later() == 1 and "SR VERIFIED" in hospital.sent()


@pytest.mark.parametrize("verdict", [Verdict.DRAFT, Verdict.SECOND_LOOK])
def test_what_is_no_decision_signs_nothing(hospital: Hospital, verdict: Verdict) -> None:
    study = hospital.arrives(ELBOW.read_bytes())
    hospital.store.decide(study, "Rita", Opinion(verdict), 0)
    assert hospital.later() == 0


def test_what_cannot_be_put_beside_its_source(hospital: Hospital, cascade: Cascade) -> None:
    """No UIDs, pictures that are gone, and a study that somebody put on the list by hand."""
    nameless = hospital.arrives(dicom(phantom()), "1.2.9")
    hospital.store.decide(nameless, "Rita", AGREE, 0)
    assert hospital.later() == 0 and not hospital.sent()
    study = hospital.arrives(ELBOW.read_bytes())
    [study] = {e.id for e in hospital.store.worklist()} - {nameless} or {study}
    hospital.store.decide(study, "Rita", AGREE, 0)
    views = hospital.store.study(study).result.views
    hospital.store.pictures.remove([str(v.sha256) for v in views])
    assert hospital.later() == 0
    assert set(hospital.sent()) >= {"SR UNVERIFIED"}


def test_the_side_stands_with_the_site_of_view_and_reader(hospital: Hospital) -> None:
    header, file = pydicom.dcmread(ELBOW), io.BytesIO()
    header.ImageLaterality = "R"
    header.save_as(file)
    study = hospital.arrives(file.getvalue())
    record = hospital.store.study(study)
    own = Opinion(Verdict.DISAGREE, record.result.body_part, Finding.DOUBTFUL)
    hospital.store.decide(study, "Rita", own, 0)
    assert hospital.later() == 1
    sides = items(hospital.sent()["SR VERIFIED"], "Laterality")
    assert [s.ConceptCodeSequence[0].CodeMeaning for s in sides] == ["Right", "Right"]
    hospital.store.decide(study, "Rita", replace(own, body_part=BodyPart("foot")), 1)
    assert hospital.later() == 1  # of another part the side is not known to be that
    assert len(items(hospital.sent()["SR VERIFIED"], "Laterality")) == 1


def test_frames_keep_their_numbers(hospital: Hospital) -> None:
    study = hospital.arrives(several_frames())
    marks = (Mark(1, 0.1, 0.1, 0.5, 0.5),)
    hospital.store.decide(study, "Rita", Opinion(Verdict.AGREE, marks=marks), 0)
    assert hospital.later() == 1
    report = hospital.sent()["SR VERIFIED"]
    regions = [i for i in walk(report) if i.get("GraphicType")]
    [image] = regions[-1].ContentSequence
    assert image.ReferencedSOPSequence[0].ReferencedFrameNumber == 2


def test_the_audit_tells_what_was_sent_and_names_nobody(hospital: Hospital) -> None:
    study = hospital.arrives(ELBOW.read_bytes())
    count = len(hospital.outbox.waiting())
    sent = hospital.sent()
    hospital.store.decide(study, "Rita", AGREE, 0)
    hospital.later()
    lines = [a for a in hospital.store.audit_lines() if a.event == "object.sent"]
    assert len(lines) == count and {a.actor for a in lines} == {"listener"}
    facts = [json.loads(a.facts) for a in lines]
    assert {f["study"] for f in facts} == {study} and {f["destination"] for f in facts} == {TO}
    assert {"SC", "SR", "PDF"} <= {f["kind"] for f in facts}
    assert {str(d.SOPInstanceUID) for d in sent.values()} <= {f["uid"] for f in facts}
    assert "report.signed" in {a.event for a in hospital.store.audit_lines()}
    header = pydicom.dcmread(ELBOW)
    said = repr(hospital.store.audit_lines())
    assert str(header.PatientName) not in said and str(header.PatientID) not in said
    assert hospital.store.verify_audit().problems == ()


def test_names_of_readers() -> None:
    assert person_name("Rita Reader") == "Rita Reader^"
    assert person_name("Reader^Rita") == "Reader^Rita"
    assert person_name("a\\b=c\n^^^^^^") == "a b c^"
    assert person_name("") == "Unknown^"
    assert len(person_name("x" * 200)) <= 64


def test_what_was_decided_stands_where_another_rule_puts_views_together_now(
    hospital: Hospital, caplog
) -> None:
    study = hospital.arrives(ELBOW.read_bytes())
    hospital.sent()
    said = next(f for f in Finding if f != hospital.store.study(study).result.finding)
    with hospital.store._database.writing() as (session, _):  # as an older version stored it
        row = session.get(tables.Study, study)
        row.finding, row.probability, row.notes = said, 0.123, ["By the rule of its day."]
    hospital.store.decide(study, "Rita", AGREE, 0)
    assert hospital.later() == 1 and "not reported" not in caplog.text
    sent = hospital.sent()
    report = sent["SR VERIFIED"].to_json()
    assert "By the rule of its day." in report
    findings = [i.ConceptCodeSequence[0].CodeValue for i in items(sent["SR VERIFIED"], "Finding")]
    assert findings[-1] == said
    record = hospital.store.study(study)
    whole = signing._as_decided(
        Assessment((), hospital.cascade.release, refused=record.result.views), record, [0]
    )[1]
    assert (whole.study.finding, whole.study.probability) == (said, 0.123)


def test_an_older_rule_counts_the_files_that_are_left_out_once(hospital: Hospital) -> None:
    """As the preliminary report does: a file that cannot be read is told as one that is missing."""
    hospital.inbox.put("1.2.3", "b.dcm", ELBOW.read_bytes()[:400], instead=True)
    study = hospital.arrives(ELBOW.read_bytes())
    missing, counted = "1 of 2 radiographs of the study", "1 of 2 views was not assessed."
    before = hospital.sent()["SR UNVERIFIED"].to_json()
    assert before.count(missing) == 1 and counted not in before
    assert counted in hospital.store.study(study).result.notes
    with hospital.store._database.writing() as (session, _):  # as an older version stored it
        row = session.get(tables.Study, study)
        row.probability, row.notes = 0.123, ["By the rule of its day.", counted]
    hospital.store.decide(study, "Rita", AGREE, 0)
    assert hospital.later() == 1
    report = hospital.sent()["SR VERIFIED"].to_json()
    assert "By the rule of its day." in report
    assert report.count(missing) == 1 and counted not in report
