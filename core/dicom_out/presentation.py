"""Grayscale Softcopy Presentation State (PS3.3 A.33.1): the outline, for the original picture."""

from __future__ import annotations

import logging
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from highdicom import (
    ModalityLUT,
    ModalityLUTTransformation,
    PresentationLUTTransformation,
    pr,
)
from pydicom.dataset import Dataset

from core.dicom_out.region import outline, stored_size
from core.dicom_out.series import SERIES, device, set_side
from core.dicom_out.source import Assessment, View, finding_words
from core.errors import where
from core.lut import is_inverse
from core.notes import contradiction, points_of, probability_of

log = logging.getLogger(__name__)
_Outline: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def presentation_state(view: View, assessment: Assessment, number: int) -> Dataset | None:
    """The object of one view; None where there is no region, the source is in colour or its header
    is so odd that highdicom refuses it: an outline never costs the report."""
    region = outline(view.radiograph, view.result)
    if region is None or not _is_grey(view):
        return None
    try:
        return _state(view, assessment, number, region)
    except Exception as error:  # noqa: BLE001 - and no message in the log: it may quote values
        log.error("The outline of a view is not sent: %s", where(error))
        return None


def _state(view: View, assessment: Assessment, number: int, region: _Outline) -> Dataset:
    name = assessment.uid("PR", view.source.SOPInstanceUID, view.frame)
    inverse = is_inverse(view.source)
    state: Dataset = pr.GrayscaleSoftcopyPresentationState(
        referenced_images=[_grouped(view.source)],
        sop_instance_uid=name,
        content_label="ASSESSMENT",
        content_description="Outline of where the evidence lies",
        graphic_annotations=[_annotation(view, assessment, region)],
        graphic_layers=[_LAYER],
        presentation_lut_transformation=PresentationLUTTransformation(
            presentation_lut_shape="INVERSE" if inverse else "IDENTITY"
        ),
        modality_lut_transformation=_modality_table(view.source),
        **device(assessment, SERIES["PR"], number),
    )
    state.ContentCreatorName = "Program^Assessing"
    [area] = state.DisplayedAreaSelectionSequence
    area.PresentationPixelAspectRatio = _aspect(view)
    set_side(state, assessment, view)
    return state


def _modality_table(source: Dataset) -> ModalityLUTTransformation | None:
    """The Modality LUT of the source; highdicom itself repeats slope and intercept alone."""
    if "ModalityLUTSequence" not in source:
        return None
    [item] = source.ModalityLUTSequence
    table = ModalityLUT(
        item.ModalityLUTType, item.LUTDescriptor[1], np.frombuffer(item.LUTData, "<u2")
    )
    return ModalityLUTTransformation(modality_lut=table)


_LAYER = pr.GraphicLayer(
    layer_name="EVIDENCE", order=1, description="Evidence of a finding", display_color=None
)


def _aspect(view: View) -> list[int]:
    """Height and width of the source's pixels as the picture was made square (PS3.3 C.10.4)."""
    rows, columns = stored_size(view.radiograph)
    height, width = view.radiograph.pixels.shape
    ratio = Fraction(height * columns, width * rows)
    return [ratio.numerator, ratio.denominator]


def _grouped(source: Dataset) -> Dataset:
    """With empty groups of frames, where highdicom looks and which XA and RF do not have."""
    frames = int(source.get("NumberOfFrames") or 1)
    if frames == 1:
        return source
    grouped = Dataset()
    grouped.update(source)
    grouped.SharedFunctionalGroupsSequence = [Dataset()]
    grouped.PerFrameFunctionalGroupsSequence = [Dataset() for _ in range(frames)]
    return grouped


def _is_grey(view: View) -> bool:
    return str(view.source.get("PhotometricInterpretation")) in ("MONOCHROME1", "MONOCHROME2")


def _annotation(view: View, assessment: Assessment, region: _Outline) -> pr.GraphicAnnotation:
    fracture, part = view.result.fracture, view.result.part
    said = [f"{finding_words(view.result).capitalize()}."]
    if fracture and part:
        share = probability_of(fracture.probability, assessment.release, part)
        said = [f"{finding_words(view.result).capitalize()}, {share}."]
        said += contradiction(fracture.members, points_of(assessment.release, part))
    text = " ".join((*said, "Preliminary."))
    header = view.radiograph.header
    rows, columns = stored_size(view.radiograph)
    corner = np.clip(region.max(0), 0.5, [columns - 0.5, rows - 0.5])
    return pr.GraphicAnnotation(
        referenced_images=[view.source],
        referenced_frame_number=view.frame if header and header.frames > 1 else None,
        graphic_layer=_LAYER,
        graphic_objects=[
            pr.GraphicObject(
                graphic_type=pr.GraphicTypeValues.POLYLINE,
                graphic_data=region,
                units=pr.AnnotationUnitsValues.PIXEL,
                is_filled=False,
                tracking_id=f"View {assessment.number(view)}",
                tracking_uid=assessment.tracking_uid(view),
            )
        ],
        text_objects=[
            pr.TextObject(
                text_value=text, units=pr.AnnotationUnitsValues.PIXEL, anchor_point=tuple(corner)
            )
        ],
    )
