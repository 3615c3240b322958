"""Secondary Capture (PS3.3 A.8.1): the picture with heatmap, outline and a strip of text."""

from __future__ import annotations

import cv2
import numpy as np
from highdicom.sc import SCImage
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from core import explain
from core.dicom_out.region import outline, stored_size
from core.dicom_out.series import SERIES, common, reference, set_issuer, set_side
from core.dicom_out.source import Assessment, View, sentences
from core.display import to_8_bit

_SIDE = 1536  # uncompressed colour: 7 MB at most, which every viewer shows
_ACCENT = (255, 176, 64)


def capture(view: View, assessment: Assessment, number: int) -> Dataset:
    """The object of one view, ``number`` from 1 in its series."""
    picture = drawing(view, assessment)
    image: Dataset = SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **common(assessment, SERIES["SC"], number, view),
    )
    image.PatientOrientation = None  # type 2C, and not known of a projection
    set_issuer(image, assessment)
    set_side(image, assessment, view, image=True)
    image.ConversionType = "WSD"
    image.DerivationDescription = "Display of the source with a heatmap, an outline and text."
    source = reference(view)
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = (
        *("121322", "DCM"),
        codes.DCM.SourceImageForImageProcessingOperation.meaning,
    )
    source.PurposeOfReferenceCodeSequence = [purpose]
    image.SourceImageSequence = [source]
    header = view.radiograph.header
    if header is not None and header.burned_in is not None:  # the strip names nobody
        image.BurnedInAnnotation = "YES" if header.burned_in else "NO"
    return image


def drawing(view: View, assessment: Assessment) -> NDArray[np.uint8]:
    """HxWx3 uint8 RGB, the longer side of the picture at most 1,536, the strip below it."""
    grey = _display(view.radiograph.pixels)
    heat = view.result.heatmap
    if heat is not None and view.result.fracture is not None:
        picture = explain.overlay(grey, explain.on_picture(heat, *grey.shape), 0.5)
    else:
        picture = np.repeat(grey[..., None], 3, axis=2)
    region = outline(view.radiograph, view.result)
    if region is not None:
        scale = np.array(grey.shape[::-1]) / stored_size(view.radiograph)[::-1]
        points = np.rint(region * scale - 0.5).astype(np.int32)
        width = max(1, max(grey.shape) // 400)
        cv2.polylines(picture, [points], True, _ACCENT, width, cv2.LINE_AA)
    return np.vstack([picture, _strip(sentences(view, assessment), picture.shape[1])])


def _display(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    """HxW uint8, windowed as on page and paper, at most _SIDE long; at least 512 for the text."""
    grey = to_8_bit(pixels, _SIDE)
    scale = 512 / max(grey.shape)
    if scale <= 1:
        return grey
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    return cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def _strip(lines: list[str], width: int) -> NDArray[np.uint8]:
    """Text in white on black, ``width`` wide; long lines are wrapped."""
    size = max(0.4, min(0.8, width / 1400))
    step, margin = round(30 * size) + 6, 8
    wrapped = [part for line in lines for part in _wrapped(line, width - 2 * margin, size)]
    strip = np.zeros((step * len(wrapped) + 2 * margin, width, 3), np.uint8)
    for i, text in enumerate(wrapped):
        place = (margin, margin + step * (i + 1) - 6)
        font, white = cv2.FONT_HERSHEY_SIMPLEX, (235, 235, 235)
        cv2.putText(strip, text, place, font, size, white, 1, cv2.LINE_AA)
    return strip


def _wrapped(line: str, width: int, size: float) -> list[str]:
    done, current = [], ""
    for word in line.split():
        longer = f"{current} {word}".strip()
        fits = cv2.getTextSize(longer, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0] <= width
        if current and not fits:
            done.append(current)
            longer = word
        current = longer
    return [*done, current]
