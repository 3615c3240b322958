"""What a DICOM header says beside the picture: the standard's words pass, nothing else does."""

from __future__ import annotations

import dataclasses
import hashlib
import io

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels.utils import compress
from pydicom.uid import JPEGLSLossless, RLELossless

from core import imaging, pipeline
from core.cascade import Cascade
from core.errors import ImageRejected
from core.header import disagreement, header_of
from core.settings import ImageLimits
from core.study import combine
from core.types import BodyPart, DicomHeader
from tests.simulated import dataset, dicom, encoded, part10, phantom

GREY = phantom()
LIMITS = ImageLimits()
PARTS = (BodyPart.ELBOW, BodyPart.HAND, BodyPart.SHOULDER)
UIDS = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4"}


def test_what_the_header_says() -> None:
    said = {"BodyPartExamined": "ELBOW", "ViewPosition": "AP", "ImageLaterality": "L"}
    data = dicom(GREY, **UIDS, **said, PatientID="4711")
    header = imaging.decode(data, "a", LIMITS).header
    assert header == DicomHeader(
        "1.2.3", "1.2.826.0.1.3680043.10.1.1", "DX", "ELBOW", "AP", "L",
        patient=hashlib.sha256(b"4711").hexdigest()[:12],
    )  # fmt: skip
    assert imaging.decode(encoded(GREY, "PNG"), "a", LIMITS).header is None


@pytest.mark.filterwarnings("ignore:Invalid value")
def test_what_is_no_word_of_the_standard_is_dropped() -> None:
    words = ("Modality", "BodyPartExamined", "ViewPosition", "Laterality", "ImageLaterality")
    words += ("PatientID",)
    data = dicom(GREY, **dict.fromkeys((*words, "BurnedInAnnotation", *UIDS), "DOE"))
    radiograph = imaging.decode(data, "a", LIMITS)
    said = repr((radiograph.header, radiograph.notes, radiograph.cautions))
    assert "DOE" not in said and "unknown modality" in said
    assert dataclasses.replace(radiograph.header, instance_uid="", patient="") == DicomHeader()


def test_the_anatomic_region_stands_in_for_the_body_part() -> None:
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator = "16953009", "SCT"
    assert header_of(dataset(GREY, AnatomicRegionSequence=[region])).body_part == "ELBOW"


@pytest.mark.parametrize(
    ("said", "seen", "words"),
    [
        ("ELBOW", BodyPart.ELBOW, None),
        ("WRIST", BodyPart.HAND, None),
        ("KNEE", BodyPart.OTHER, "says knee, a body part that has no fracture model here"),
        ("", BodyPart.HAND, None),
        ("KNEE", BodyPart.ELBOW, "says knee, but the picture looks like the elbow"),
        ("HAND", BodyPart.OTHER, "says hand, but the picture looks like another body part"),
    ],
)
def test_disagreement(said: str, seen: BodyPart, words: str | None) -> None:
    found = disagreement(DicomHeader(body_part=said), seen, PARTS)
    assert found is None if words is None else words in (found or "")
    assert disagreement(None, seen, PARTS) is None


def test_a_disagreement_stands_in_the_result(cascade: Cascade) -> None:
    told = {}
    for part in ("ELBOW", "HAND", "SHOULDER", "KNEE"):
        data = dicom(
            GREY, BodyPartExamined=part, Laterality="L", PresentationIntentType="FOR PROCESSING"
        )
        radiograph, result = pipeline.diagnose(cascade, data, "a.dcm", LIMITS)
        assert radiograph is not None and result.body_part is not None
        said = disagreement(radiograph.header, result.body_part.label, cascade.release.parts)
        told[part] = said is not None and "please check" in said
        assert result.origin.cautions == (*([said] if said else []), *radiograph.cautions)
        assert "raw detector data" in result.origin.cautions[-1] and result.origin.side == "L"
        study = combine("s", [result], cascade.release)
        assert set(result.origin.cautions) <= set(study.notes)
    # one of the four is what the network sees; of other parts a knee is one
    assert sum(told.values()) == 3


def test_who_names_the_part_of_the_header_is_not_asked_to_check_it(cascade: Cascade) -> None:
    for part in cascade.release.parts:
        data = dicom(GREY, BodyPartExamined=part.upper())
        _, result = pipeline.diagnose(cascade, data, "a.dcm", LIMITS, part)
        assert result.origin.cautions == ()


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"Modality": "CT"}, "computed tomography"),
        ({"BurnedInAnnotation": "YES"}, "not removed"),
        ({"BurnedInAnnotation": "NO"}, None),
        ({"Modality": "CR", "BodyPartExamined": "HAND"}, None),
        ({"ConversionType": "WSD"}, "a workstation made of another"),
        ({"Modality": "OT", "ImageType": ["DERIVED", "SECONDARY"]}, "a workstation made"),
        ({"Modality": "OT", "ImageType": ["ORIGINAL", "PRIMARY"]}, None),
        ({"ImageType": ["DERIVED", "SECONDARY"]}, None),  # processed by the device
        (  # a film that was scanned
            {
                "Modality": "OT",
                "ConversionType": "DF",
                "ImageType": ["DERIVED", "SECONDARY"],
            },
            None,
        ),
    ],
)
def test_warnings(attributes: dict[str, str], words: str | None) -> None:
    radiograph = imaging.decode(dicom(GREY, **attributes), "a", LIMITS)
    notes = (*radiograph.notes, *radiograph.cautions)
    assert notes == () if words is None else words in " ".join(notes)


def test_colour_is_told() -> None:
    notes = imaging.decode(dicom(np.full((40, 40, 3), 9, np.uint8)), "a", LIMITS).notes
    assert any("in colour" in note for note in notes)


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEGLSLossless])
def test_frame_by_frame(syntax: str | None) -> None:
    frames = np.stack([GREY, GREY[::-1], 255 - GREY])
    ds = dataset(GREY, NumberOfFrames=3, PixelData=frames.tobytes())
    data = part10(ds)
    if syntax:
        compress(ds, syntax, generate_instance_uid=False)
        file = io.BytesIO()
        ds.save_as(file, enforce_file_format=True)
        data = file.getvalue()
    for number, expected in enumerate(frames, 1):
        radiograph = imaging.decode(data, "a", LIMITS, number)
        np.testing.assert_array_equal(radiograph.pixels, expected)
        assert radiograph.header and (radiograph.header.frame, radiograph.header.frames) == (
            number,
            3,
        )
    with pytest.raises(ImageRejected, match="no frame 4"):
        imaging.decode(data, "a", LIMITS, 4)


def test_windows_of_single_frames() -> None:
    groups = []
    for width in (4000, 1000):
        window, group = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = 2000, width
        group.FrameVOILUTSequence = [window]
        groups.append(group)
    grey = phantom(bits=12)
    both = np.stack([grey, grey])
    ds = dataset(grey, BitsStored=12, NumberOfFrames=2, PixelData=both.tobytes())
    ds.PerFrameFunctionalGroupsSequence = groups
    for number, width in ((1, 4000), (2, 1000)):
        plain = dicom(grey, BitsStored=12, WindowCenter=2000, WindowWidth=width)
        np.testing.assert_array_equal(
            imaging.decode(part10(ds), "a", LIMITS, number).pixels,
            imaging.decode(plain, "a", LIMITS).pixels,
        )


def test_index_of_a_disc_is_told() -> None:
    path = pydicom.data.get_testdata_file("DICOMDIR")
    with pytest.raises(ImageRejected, match=r"index of a disc .* pictures beside it"):
        imaging.read(path, LIMITS)
