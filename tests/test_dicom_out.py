"""Objects for the archive, read by software that others wrote: dciodvfy, dsrdump, FHIR's models."""

from __future__ import annotations

import dataclasses
import io
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import XRayAngiographicImageStorage

from core import imaging
from core.__main__ import main
from core.cascade import Cascade
from core.dicom_out import presentation, reply
from core.dicom_out.encoding import encoded as encoded_file
from core.dicom_out.fhir import diagnostic_report
from core.dicom_out.region import outline
from core.dicom_out.source import Assessment, Signature, sentences, source_of
from core.dicom_out.structured import structured_report
from core.errors import ImageRejected
from core.origin import Origin
from core.report import Decision
from core.settings import ImageLimits
from core.study import Mark
from core.types import BodyPart, Finding, FracturePrediction, Heatmap, MemberPrediction
from tests.simulated import dataset, dicom, encoded, part10, phantom

SAMPLES = Path(__file__).parent.parent / "samples"
LIMITS = ImageLimits()
ELBOW = SAMPLES / "elbow_lateral_124.dcm"
UIDS = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4"}
needs = pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dicom3tools is not installed")


def problems(data: bytes, folder: Path) -> list[str]:
    """The errors that dciodvfy finds in a file."""
    path = folder / "checked.dcm"
    path.write_bytes(data)
    said = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    assert said.stderr or said.stdout
    return [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]


def signed(assessment: Assessment) -> Assessment:
    """By two readers, one with a word and a mark of her own, the other with a name of one part."""
    when = datetime(2026, 11, 28, 12, tzinfo=UTC)
    first = Decision(
        "Reader^Rita",
        when,
        False,
        BodyPart.HAND,
        Finding.DOUBTFUL,
        "A line beside the joint.",
        (Mark(0, 0.1, 0.2, 0.3, 0.4),),
    )
    second = Decision("ruben@clinic.example", when, True, None, Finding.SUSPECTED)
    return dataclasses.replace(assessment, signature=Signature("Clinic", (first, second)))


def suspected(assessment: Assessment) -> Assessment:
    """The same, with a clear finding in the upper left of every view."""
    values = np.zeros((7, 7), np.float32)
    values[2, 2] = 0.9
    views = tuple(
        dataclasses.replace(
            v,
            result=dataclasses.replace(
                v.result,
                reason=None,
                fracture=FracturePrediction(0.9, Finding.SUSPECTED),
                heatmap=Heatmap(values, "Grad-CAM"),
            ),
        )
        for v in assessment.views
    )
    return dataclasses.replace(assessment, views=views)


def rejected(assessment: Assessment) -> Assessment:
    views = tuple(
        dataclasses.replace(
            v,
            result=dataclasses.replace(
                v.result, reason="This is no bone.", fracture=None, heatmap=None
            ),
        )
        for v in assessment.views
    )
    return dataclasses.replace(assessment, views=views)


@pytest.fixture(scope="module")
def elbow(cascade: Cascade) -> Assessment:
    return reply.assess(cascade, [("a.dcm", ELBOW.read_bytes())], LIMITS)


def odd_header() -> bytes:
    """What a device may send: names in Kanji, nonsense in the sex, dates that are none."""
    ds = dataset(phantom(120, 100, bits=12), BitsStored=12, **UIDS)
    ds.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    ds.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    ds.PatientSex, ds.StudyID = "X", "S" * 16
    ds.WindowCenter, ds.WindowWidth = [10, 20], [0, 0]
    del ds.PatientID
    return part10(ds)


def several_frames() -> bytes:
    grey = phantom(60, 50)
    both = np.stack([grey, 255 - grey])
    angiography = {"SOPClassUID": XRayAngiographicImageStorage, "Modality": "XA"}
    return dicom(grey, NumberOfFrames=2, PixelData=both.tobytes(), **angiography, **UIDS)


def table(first: int = 0, bits: int = 12, words: bool = False) -> Dataset:
    """A VOI LUT of 4,096 entries from dark to bright. words: as OW and not as numbers."""
    item, values = Dataset(), np.arange(4096) >> (12 - bits)
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [4096, first, bits])
    item.add_new(
        "LUTData",
        "OW" if words else "US",
        values.astype("<u2").tobytes() if words else values.tolist(),
    )
    return item


WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}


@needs
@pytest.mark.parametrize(
    ("header", "kept"),
    [
        ({"VOILUTSequence": [table(words=True)], **WINDOW}, "VOILUTSequence"),  # both are legal
        ({"VOILUTSequence": [table(), table()]}, "VOILUTSequence"),
        ({"VOILUTSequence": [table(-5)], **WINDOW}, "WindowCenter"),
        ({"VOILUTSequence": [Dataset()], **WINDOW}, "WindowCenter"),
        ({"VOILUTSequence": [], **WINDOW}, "WindowCenter"),
        ({"VOILUTFunction": "ODD", **WINDOW}, "WindowCenter"),
        ({"VOILUTFunction": "sigmoid", **WINDOW}, "VOILUTFunction"),
        ({"RescaleSlope": 2, **WINDOW}, "WindowCenter"),
        ({"RescaleIntercept": 2, "RescaleType": "X" * 70, **WINDOW}, "WindowCenter"),
        ({"RescaleSlope": 2, "RescaleIntercept": 1, "RescaleType": "X" * 70}, "RescaleSlope"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom", "ignore::UserWarning:highdicom")
def test_an_outline_repeats_what_it_can_of_the_grey_values(
    cascade: Cascade, tmp_path: Path, caplog, header: dict[str, object], kept: str
) -> None:
    data = dicom(phantom(120, 100, bits=12), BitsStored=12, **UIDS, **header)
    assessment = suspected(reply.assess(cascade, [("a.dcm", data)], LIMITS))
    made = dict(reply.objects(assessment))
    assert set(made) == {
        *("capture-1.dcm", "presentation-1.dcm", "report-sr.dcm", "report-pdf.dcm")
    }
    state = made["presentation-1.dcm"]
    assert problems(encoded_file(state), tmp_path) == []
    [softcopy] = state.get("SoftcopyVOILUTSequence") or [state]
    assert kept in softcopy or kept in state
    assert ("VOILUTSequence" in softcopy) + ("WindowWidth" in softcopy) <= 1
    if kept == "VOILUTSequence":  # the whole range, in the 16 bits that it says
        shown = np.frombuffer(softcopy.VOILUTSequence[0].LUTData, "<u2")
        assert softcopy.VOILUTSequence[0].LUTDescriptor == [4096, 0, 16]
        assert (shown[0], shown[-1]) == (0, 0xFFFF) and (np.diff(shown.astype(int)) >= 0).all()


@needs
@pytest.mark.parametrize("rescale", [{}, {"RescaleSlope": 2, "RescaleIntercept": 0}])
def test_an_outline_repeats_the_modality_table(
    cascade: Cascade, tmp_path: Path, rescale: dict[str, int]
) -> None:
    """Its output as it is, of which the window is; optical density, say, of a film."""
    modality = table()
    modality.LUTDescriptor, modality.ModalityLUTType = [4096, 0, 16], "OD"
    modality.LUTData = [65_000 - 15 * n for n in range(4096)]
    shown = {"ModalityLUTSequence": [modality], "WindowCenter": 30_000, "WindowWidth": 60_000}
    data = dicom(phantom(120, 100, bits=12), BitsStored=12, **UIDS, **shown, **rescale)
    assessment = suspected(reply.assess(cascade, [("a.dcm", data)], LIMITS))
    state = dict(reply.objects(assessment))["presentation-1.dcm"]
    assert problems(encoded_file(state), tmp_path) == []
    [kept] = state.ModalityLUTSequence
    assert kept.ModalityLUTType == "OD" and "RescaleSlope" not in state
    assert np.frombuffer(kept.LUTData, "<u2").tolist() == modality.LUTData


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom", "ignore::UserWarning:highdicom")
def test_a_number_that_is_none_costs_no_report(cascade: Cascade) -> None:
    """With a comma, as some devices write them."""
    numbers = {"WindowCenter": "1111", "WindowWidth": "2222"}
    numbers |= {"RescaleSlope": "3333", "RescaleIntercept": "4444"}
    data = dicom(phantom(120, 100), **UIDS, **numbers)
    odd = data.replace(b"1111", b"1,5 ")
    made = dict(reply.objects(suspected(reply.assess(cascade, [("a.dcm", odd)], LIMITS))))
    assert {"presentation-1.dcm", "report-sr.dcm", "report-pdf.dcm"} <= set(made)
    with pytest.raises(ImageRejected, match="cannot be read"):  # by what decodes it
        reply.views_of(cascade, data.replace(b"3333", b"1,5 "), "a.dcm", LIMITS)


def test_an_outline_that_cannot_be_made_costs_no_report(
    elbow: Assessment, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    said = "^".join(("Doe", "Jane"))  # what a library quotes in its message

    def refuses(**_: object) -> None:
        raise ValueError(said)

    monkeypatch.setattr(presentation.pr, "GrayscaleSoftcopyPresentationState", refuses)
    names = [name for name, _ in reply.objects(suspected(elbow))]
    assert names == ["capture-1.dcm", "report-sr.dcm", "report-pdf.dcm"]
    assert "The outline of a view is not sent: ValueError" in caplog.text
    assert said not in caplog.text


@needs
@pytest.mark.parametrize("change", [suspected, rejected, lambda a: signed(suspected(a))])
@pytest.mark.parametrize("source", [ELBOW.read_bytes, odd_header, several_frames])
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom", "ignore::UserWarning:highdicom")
def test_no_object_has_an_error(cascade: Cascade, tmp_path: Path, source, change) -> None:
    assessment = change(reply.assess(cascade, [("a.dcm", source())], LIMITS))
    names = []
    for name, item in reply.objects(assessment):
        assert problems(encoded_file(item), tmp_path) == [], name
        names.append(name.split("-")[0])
    expected = 2 if source is several_frames else 1
    assert names.count("capture") == expected and names.count("report") == 2
    assert names.count("presentation") == (0 if change is rejected else expected)


def test_each_goes_into_the_same_study_as_a_new_series(elbow: Assessment) -> None:
    original = pydicom.dcmread(ELBOW)
    made = [item for _, item in reply.objects(suspected(elbow))]
    for item in made:
        assert item.StudyInstanceUID == original.StudyInstanceUID
        assert item.PatientID == original.PatientID
        assert str(item.PatientName) == str(original.PatientName)
    series = {item.SeriesInstanceUID for item in made} | {original.SeriesInstanceUID}
    assert len(series) == 5
    again = [item for _, item in reply.objects(suspected(elbow))]
    assert [i.SOPInstanceUID for i in made] == [i.SOPInstanceUID for i in again]
    assert len({i.SOPInstanceUID for i in made}) == len(made)


def test_a_later_view_makes_new_objects(cascade: Cascade, elbow: Assessment) -> None:
    patient = elbow.views[0].source.PatientID
    data = dicom(phantom(), **UIDS | {"StudyInstanceUID": elbow.study_uid, "PatientID": patient})
    both = reply.assess(cascade, [("a", ELBOW.read_bytes()), ("b", data)], LIMITS)
    before = {i.SOPInstanceUID for _, i in reply.objects(elbow)}
    assert not before & {i.SOPInstanceUID for _, i in reply.objects(both)}


@needs
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom", "ignore::UserWarning:highdicom")
@pytest.mark.parametrize(
    ("sides", "series", "images"),
    [
        ("RR", {"R"}, {None}),
        ("LR", {"left out", None}, {"L", "R"}),  # in one series, so the series has no side
        ("LB", {"left out", None}, {"L", "B"}),
        (("L", ""), {"left out", None}, {"L", None}),
        (("", ""), {None}, {None}),
    ],
)
def test_the_side_of_a_series_is_that_of_all_its_views(
    cascade: Cascade, tmp_path: Path, sides: Sequence[str], series: set[str], images: set[str]
) -> None:
    files = [
        (f"{n}.dcm", dicom(phantom(), ImageLaterality=s, SOPInstanceUID=f"1.2.3.4.{n}", **UIDS))
        for n, s in enumerate(sides)
    ]
    assessment = suspected(reply.assess(cascade, files, LIMITS))
    made = [item for n, item in reply.objects(assessment) if not n.startswith("report")]
    assert [item.Modality for item in made] == ["OT", "PR"] * 2
    assert all(problems(encoded_file(item), tmp_path) == [] for item in made)
    assert {item.get("Laterality", "left out") for item in made} == series
    assert {i.get("ImageLaterality") for i in made if i.Modality == "OT"} == images
    assert not any("ImageLaterality" in i for i in made if i.Modality == "PR")


def test_names_leave_in_unicode(cascade: Cascade) -> None:
    assessment = reply.assess(cascade, [("a.dcm", odd_header())], LIMITS)
    for _, item in reply.objects(suspected(assessment)):
        read = pydicom.dcmread(pydicom.filebase.DicomBytesIO(encoded_file(item)))
        assert read.SpecificCharacterSet == "ISO_IR 192"
        assert "山田" in str(read.PatientName)


@pytest.mark.filterwarnings("ignore:The value length:UserWarning")
def test_a_number_that_is_too_long_is_not_cut_to_another_one() -> None:
    long = {"AccessionNumber": "A" * 17, "StudyID": "S" * 17}
    header = dataset(phantom(), PatientID="P" * 64, **long, **UIDS)
    source = source_of(header)
    assert (source.AccessionNumber, source.StudyID) == ("", "") and source.PatientID == "P" * 64
    for name in ("P" * 65, "12\\34"):
        header.PatientID = name
        with pytest.raises(ImageRejected, match="more than 64 characters or a backslash"):
            source_of(header)


def test_what_a_backslash_divides_is_left_out_and_not_cut_to_its_first_piece() -> None:
    divided = {"PatientName": "Doe\\Jane", "AccessionNumber": "A1\\B2", "StudyID": "1\\2"}
    source = source_of(dataset(phantom(), **divided, IssuerOfPatientID="A\\B", **UIDS))
    assert {str(source[keyword].value) for keyword in divided} == {""}
    assert "IssuerOfPatientID" not in source


def test_who_gave_the_patient_id_stands_in_every_object(cascade: Cascade) -> None:
    data = dicom(phantom(120, 100), PatientID="P-1", IssuerOfPatientID="Clinic B", **UIDS)
    assessment = suspected(reply.assess(cascade, [("a.dcm", data)], LIMITS))
    made = dict(reply.objects(assessment))
    assert len(made) == 4
    assert {item.get("IssuerOfPatientID") for item in made.values()} == {"Clinic B"}
    subject = diagnostic_report(assessment)["subject"]["identifier"]
    assert subject == {"value": "P-1", "assigner": {"display": "Clinic B"}}


def hostile_header() -> bytes:
    """Tags that are markup, a script, Markdown, a formula and right-to-left."""
    ds = dataset(phantom(120, 100, bits=12), BitsStored=12, **UIDS)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName = "<img src=x onerror=alert(1)>^Jane"
    ds.PatientID = '=HYPERLINK("x";"y")'
    ds.StudyDescription = "<script>alert(1)</script> **bold** [a](javascript:alert(1))"
    ds.StudyID, ds.AccessionNumber = "<b>1</b>", "\u202egnp.eod"
    return part10(ds)


@pytest.mark.skipif(not shutil.which("dsr2html"), reason="dcmtk is not installed")
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom", "ignore::UserWarning:highdicom")
def test_tags_that_are_markup_are_text_in_the_report(cascade: Cascade, tmp_path: Path) -> None:
    """As dcmtk reads it and writes it as a page; and the header is the one that came."""
    source = hostile_header()
    assessment = reply.assess(cascade, [("<script>alert(2)</script>.dcm", source)], LIMITS)
    given = pydicom.dcmread(io.BytesIO(source))
    reports = 0
    for name, item in reply.objects(assessment):
        for keyword in ("PatientName", "PatientID", "AccessionNumber", "StudyID"):
            assert item.get(keyword) == given.get(keyword), (name, keyword)
        path = tmp_path / f"{name}.dcm"
        path.write_bytes(encoded_file(item))
        if item.Modality != "SR":
            continue
        reports += 1
        page = tmp_path / "report.html"
        subprocess.run(["dsr2html", "+U8", path, page], check=True, capture_output=True)
        text = page.read_text(encoding="utf-8")
        assert "&lt;img src" in text  # of a name's first group: it ends at "="
        for raw in ("<img", "<script", "<b>1", 'href="javascript'):
            assert raw not in text
    assert reports == 1


@pytest.mark.skipif(not shutil.which("dsrdump"), reason="dcmtk is not installed")
def test_dsrdump_reads_the_report(elbow: Assessment, tmp_path: Path) -> None:
    path = tmp_path / "sr.dcm"
    found = {}
    for name, assessment in (("first", suspected(elbow)), ("then", signed(suspected(elbow)))):
        path.write_bytes(encoded_file(structured_report(assessment)))
        command = ["dsrdump", "+Pl", path]
        found[name] = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for text in (
        '(suspected,99BONE,"Finding suspected")',
        '"Calibrated probability of a finding")="0.9"',
        '"Threshold of the operating point specific")="0.7"',
        'validation split")=',
        '(16953009,SCT,"Elbow joint")',
        "(POLYLINE,",
        f'"Algorithm Version")="{elbow.release.id}"',
        elbow.release.sha256,
        "meant in training: fracture",
        "DX image",
    ):
        assert text in found["first"], text
    assert "PRELIMINARY" in found["first"] and "UNVERIFIED" in found["first"]
    assert "Predecessor" not in found["first"] and "Person" not in found["first"]
    assert "UNVERIFIED" not in found["then"]
    for text in (
        "FINAL",
        "VERIFIED",
        "Reader^Rita",
        "ruben@clinic.example",
        "Clinic",
        '(disagrees,99BONE,"Disagrees")',
        '(agrees,99BONE,"Agrees")',
        '(doubtful,99BONE,"Finding doubtful")',
        '"Comment")="A line beside the joint."',
        "Predecessor Docs",
    ):
        assert text in found["then"], text


def region_in(item: Dataset) -> np.ndarray:
    if item.Modality == "PR":
        data = item.GraphicAnnotationSequence[0].GraphicObjectSequence[0].GraphicData
    else:
        text = [e.value for e in item.iterall() if e.keyword == "GraphicData"]
        [data] = text
    return np.array(data, float).reshape(-1, 2)


def test_the_region_lies_where_the_heat_is(elbow: Assessment) -> None:
    assessment = suspected(elbow)
    view = assessment.views[0]
    rows, columns = view.radiograph.pixels.shape
    heat_at = np.array([2.5 / 7, 2.5 / 7]) * max(rows, columns)
    heat_at -= np.array([max(rows, columns) - columns, max(rows, columns) - rows]) / 2
    regions = [
        region_in(i)
        for n, i in reply.objects(assessment)
        if n.startswith(("presentation", "report-sr"))
    ]
    assert len(regions) == 2
    for region in regions:
        assert (region[0] == region[-1]).all()
        assert (region >= 0).all() and (region <= (columns, rows)).all()
        assert np.abs((region.min(0) + region.max(0)) / 2 - heat_at).max() < 0.02 * rows
        assert (np.ptp(region, axis=0) < 0.3 * rows).all()


def test_the_finding_of_the_study_stands_once_for_its_views(
    cascade: Cascade, elbow: Assessment, tmp_path: Path
) -> None:
    """Of one view alone its own is that of the study."""
    several = suspected(reply.assess(cascade, [("a.dcm", several_frames())], LIMITS))
    first = dataclasses.replace(
        several.views[0].result, fracture=FracturePrediction(0.5, Finding.SUSPECTED)
    )
    views = (dataclasses.replace(several.views[0], result=first), *several.views[1:])
    several = dataclasses.replace(several, views=views)

    def of_study(assessment: Assessment) -> list[str]:
        item = structured_report(assessment)
        return [g.to_json() for g in groups(item) if '"Study"' in g.ContentSequence[0].to_json()]

    assert of_study(suspected(elbow)) == []
    for assessment in (several, signed(several)):
        [whole] = of_study(assessment)
        assert "Finding suspected" in whole
        assert str(round(assessment.study.probability or 0, 4)) in whole
        assert whole.count("00081155") == len(views)  # Referenced SOP Instance UID
        if shutil.which("dciodvfy"):
            assert problems(encoded_file(structured_report(assessment)), tmp_path) == []


def groups(report: Dataset) -> list[Dataset]:
    """The measurement groups of a structured report."""
    found = [i for i in report.ContentSequence if "ContentSequence" in i]
    [measured] = [
        i for i in found if i.ConceptNameCodeSequence[0].CodeMeaning == "Imaging Measurements"
    ]
    return list(measured.ContentSequence)


def test_no_region_without_a_finding_or_evidence(elbow: Assessment) -> None:
    view = suspected(elbow).views[0]
    found = FracturePrediction(0.1, Finding.NOT_SUSPECTED)
    assert outline(view.radiograph, dataclasses.replace(view.result, fracture=found)) is None
    blank = Heatmap(np.zeros((7, 7), np.float32), "Grad-CAM")
    assert outline(view.radiograph, dataclasses.replace(view.result, heatmap=blank)) is None


def test_the_capture_shows_the_picture_above_the_text(elbow: Assessment) -> None:
    [item] = [i for n, i in reply.objects(elbow) if n == "capture-1.dcm"]
    shown = item.pixel_array
    rows, columns = elbow.views[0].radiograph.pixels.shape
    assert shown.shape[1] == columns and shown.shape[0] > rows + 40
    grey = elbow.views[0].radiograph.pixels >> 8
    assert np.corrcoef(shown[:rows, :, 1].ravel(), grey.ravel())[0, 1] > 0.7
    assert item.SourceImageSequence[0].ReferencedSOPInstanceUID == pydicom.dcmread(ELBOW).get(
        "SOPInstanceUID"
    )


def test_fhir_accepts_the_report(elbow: Assessment) -> None:
    models = pytest.importorskip("fhir.resources.R4B.diagnosticreport")
    for assessment, status in ((elbow, "preliminary"), (signed(elbow), "final")):
        made = diagnostic_report(assessment)
        checked = models.DiagnosticReport.model_validate(made)
        assert checked.status == status
        ids = {c.id for c in checked.contained}
        assert {r.reference[1:] for r in checked.result} <= ids
        assert checked.subject.identifier.value == "elbow_lateral_124"
    assert "not assessed" in str(diagnostic_report(rejected(elbow))).lower()


@pytest.mark.parametrize(("side", "word"), [("", ""), ("L", ", left")])
def test_fhir_names_the_side(elbow: Assessment, side: str, word: str) -> None:
    [view] = elbow.views
    result = dataclasses.replace(view.result, chosen=BodyPart.ELBOW, origin=Origin(side=side))
    made = diagnostic_report(
        dataclasses.replace(elbow, views=(dataclasses.replace(view, result=result),))
    )
    assert made["conclusion"].startswith(f"Elbow{word}: finding ")
    [site] = [c["bodySite"] for c in made["contained"] if "bodySite" in c]
    assert site["text"] == f"elbow{word}" and site["coding"][0]["display"] == "Elbow joint"


def test_operating_points_have_the_figures_of_the_page(elbow: Assessment) -> None:
    """Of the split that the release was measured on; without any, those of validation by name."""
    found = suspected(elbow)
    common = {"stage": "fracture", "part": "elbow", "source": "all", "level": "image", "n": 58}
    figures = [
        common | {"metric": "sensitivity (specific)", "value": 0.68, "low": 0.5, "high": 0.8},
        common | {"metric": "specificity (specific)", "value": 1.0, "low": None, "high": None},
    ]
    release = dataclasses.replace(found.release, metrics={"split": "test", "figures": figures})
    measured = dataclasses.replace(found, release=release)
    said = " ".join(sentences(measured.views[0], measured))
    assert "sensitivity 68 % [50, 80], specificity 100 % (no interval), 58 test radiog" in said
    assert "40 validation radiographs" in said  # the other point was not measured
    told = str(diagnostic_report(measured))
    assert "Sensitivity of the operating point specific, on 58 test radiographs" in told
    assert "Sensitivity of the operating point sensitive, on 40 validation radiographs" in told
    values = dict(numbers(structured_report(measured)))
    assert values["Sensitivity at the operating point specific, test split"] == 0.68
    assert values["Specificity at the operating point specific, test split"] == 1
    assert values["Radiographs counted, operating point specific, test split"] == 58
    assert values["Specificity at the operating point sensitive, validation split"] == 0.5
    assert values["Radiographs counted, operating point sensitive, validation split"] == 40


def numbers(item: Dataset) -> Iterator[tuple[str, float]]:
    """Every measurement of a report by its meaning."""
    for content in item.get("ContentSequence", ()):
        if content.ValueType == "NUM":
            value = content.MeasuredValueSequence[0].NumericValue
            yield content.ConceptNameCodeSequence[0].CodeMeaning, float(value)
        yield from numbers(content)


@pytest.mark.parametrize(
    ("share", "words"), [(0.9962, ">99 %"), (0.004, "<1 %"), (0.2987, "29.9 %")]
)
def test_no_object_is_surer_than_its_probability(
    elbow: Assessment, share: float, words: str
) -> None:
    """Nor does it read like the threshold, 30 %, that it lies below."""
    fracture = FracturePrediction(share, Finding.SUSPECTED)
    views = tuple(
        dataclasses.replace(v, result=dataclasses.replace(v.result, fracture=fracture))
        for v in suspected(elbow).views
    )
    sure = dataclasses.replace(elbow, views=views)
    assert f"probability {words}" in sentences(sure.views[0], sure)[0]
    assert f"probability {words}" in diagnostic_report(sure)["conclusion"]
    state = presentation.presentation_state(sure.views[0], sure, 1)
    assert state is not None and f", {words}. Preliminary" in str(state)


def test_a_view_says_why_it_is_doubtful_and_what_is_to_be_checked(elbow: Assessment) -> None:
    members = (MemberPrediction("ResNet50", 0.97, 0.5), MemberPrediction("Other", 0.03, 0.5))
    doubtful = FracturePrediction(0.6, Finding.DOUBTFUL, members)
    [view] = suspected(elbow).views
    assert view.result.body_part is not None
    unsure = dataclasses.replace(view.result.body_part, label=BodyPart.ELBOW, probability=0.6)
    result = dataclasses.replace(view.result, fracture=doubtful, body_part=unsure)
    torn = dataclasses.replace(elbow, views=(dataclasses.replace(view, result=result),))
    why = "The networks contradict each other (ResNet50 97 %, Other 3 %)"
    said = " ".join(sentences(torn.views[0], torn))
    assert why in said and said.isascii()
    assert "Please check the body part" in said
    assert why in str(presentation.presentation_state(torn.views[0], torn, 1))
    texts = [item for item in structured_report(torn).iterall() if item.keyword == "TextValue"]
    assert any(why in str(item.value) for item in texts)
    assert why in str(diagnostic_report(torn))


def test_what_this_program_made_is_no_further_view(elbow: Assessment) -> None:
    for name, item in reply.objects(elbow):
        data = encoded_file(item)
        assert imaging.is_beside(data, LIMITS)
        with pytest.raises(ImageRejected, match=r"made by this program|not a radiograph") as caught:
            imaging.decode(data, name, LIMITS)
        assert ("made by this program" in caught.value.reason) == name.startswith("capture")
    assert not imaging.is_beside(ELBOW.read_bytes(), LIMITS)
    assert not imaging.is_beside(b"", LIMITS)


def test_what_has_no_study_is_refused(cascade: Cascade) -> None:
    with pytest.raises(ImageRejected, match="no DICOM file"):
        reply.assess(cascade, [("a.png", encoded(phantom(), "PNG"))], LIMITS)
    with pytest.raises(ImageRejected, match="UID"):
        reply.assess(cascade, [("a.dcm", dicom(phantom()))], LIMITS)
    other = dicom(phantom(), **UIDS)
    with pytest.raises(ImageRejected, match="several studies"):
        reply.assess(cascade, [("a", ELBOW.read_bytes()), ("b", other)], LIMITS)


def test_commands(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = ELBOW.read_bytes()
    given = ["--weights", str(weights)]
    assert main([*given, "dicom", str(ELBOW), "--out", str(tmp_path / "out")]) == 0
    names = {Path(line).name for line in capsys.readouterr().out.split()}
    assert {"capture-1.dcm", "report-sr.dcm", "report-pdf.dcm", "report-fhir.json"} <= names
    page = pydicom.dcmread(tmp_path / "out" / "report-pdf.dcm")
    assert page.EncapsulatedDocument[: page.EncapsulatedDocumentLength].startswith(b"%PDF")
    assert main([*given, "report", str(ELBOW), "--out", str(tmp_path / "r.dcm")]) == 0
    assert pydicom.dcmread(tmp_path / "r.dcm").Modality == "SR"
    assert main([*given, "report", str(SAMPLES / "elbow_ap_001.png"), "--out", "r.dcm"]) == 1
    assert "no DICOM file" in capsys.readouterr().err
    assert ELBOW.read_bytes() == before
