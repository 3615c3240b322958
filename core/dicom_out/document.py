"""Encapsulated PDF (PS3.3 A.45.1): the report as a page that a viewer prints."""

from __future__ import annotations

from datetime import UTC, datetime

from highdicom.base import SOPClass
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from core import report
from core.dicom_out.series import SERIES, common, reference, set_issuer
from core.dicom_out.source import Assessment


def document(assessment: Assessment) -> Dataset:
    """The PDF of the study's report; it names neither patient nor file."""
    radiographs = (*(v.radiograph for v in assessment.views), *[None] * len(assessment.refused))
    signed = assessment.signature
    page = report.pdf(
        report.StudyReport(
            assessment.study,
            radiographs,
            assessment.release,
            datetime.now(UTC),
            decisions=signed.decisions if signed else (),
        )
    )
    item = SOPClass(
        sop_class_uid=EncapsulatedPDFStorage,
        modality="DOC",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **common(assessment, SERIES["PDF"], 1),
    )
    set_issuer(item, assessment)
    item.ConversionType = "WSD"
    item.AcquisitionDateTime = None
    item.BurnedInAnnotation = "NO" if _nothing_burned_in(assessment) else "YES"
    item.SourceInstanceSequence = [reference(v) for v in assessment.views]
    item.VerificationFlag = "VERIFIED" if signed else "UNVERIFIED"
    item.DocumentTitle = "Assessment of radiographs" + ("" if signed else ", preliminary")
    title = Dataset()
    title.CodeValue, title.CodingSchemeDesignator = "18748-4", "LN"
    title.CodeMeaning = "Diagnostic imaging study"
    item.ConceptNameCodeSequence = [title]
    item.MIMETypeOfEncapsulatedDocument = "application/pdf"
    item.EncapsulatedDocumentLength = len(page)
    item.EncapsulatedDocument = page + b"\0" * (len(page) % 2)
    return item


def _nothing_burned_in(assessment: Assessment) -> bool:
    """The page shows the pictures, so it is as free of identity as all of them are said to be."""
    headers = [v.radiograph.header for v in assessment.views]
    return all(h is not None and h.burned_in is False for h in headers)
