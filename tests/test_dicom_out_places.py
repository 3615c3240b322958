"""Where an outline and a mark lie in the archive: in the pixels of the source, as on the pages."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from pydicom.dataset import Dataset

from core.cascade import Cascade
from core.dicom_out import capture, presentation, reply
from core.dicom_out.reading import corners
from core.dicom_out.region import outline
from core.dicom_out.source import Assessment, View
from core.explain import hottest, on_picture
from core.settings import ImageLimits
from core.study import Mark
from core.types import Finding, FracturePrediction, Heatmap
from tests.simulated import dicom, phantom

LIMITS = ImageLimits()
UIDS = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4"}


def assessed(cascade: Cascade, values: np.ndarray, **attributes: object) -> Assessment:
    """A file of 120 x 100 pixels with a finding, and a heatmap of these values."""
    attributes = {"pixels": phantom(120, 100, bits=12), "BitsStored": 12, **UIDS, **attributes}
    found = reply.assess(cascade, [("a.dcm", dicom(**attributes))], LIMITS)
    [view] = found.views
    result = dataclasses.replace(
        view.result,
        reason=None,
        fracture=FracturePrediction(0.9, Finding.SUSPECTED),
        heatmap=Heatmap(values, "Grad-CAM"),
    )
    return dataclasses.replace(found, views=(dataclasses.replace(view, result=result),))


def spot(row: int, column: int) -> np.ndarray:
    values = np.zeros((7, 7), np.float32)
    values[row, column] = 0.9
    return values


def box(view: View) -> np.ndarray:
    """Of the outline: left, top, right, bottom in fractions of the source."""
    found = outline(view.radiograph, view.result)
    assert found is not None and view.radiograph.stored is not None
    return np.concatenate([found.min(0), found.max(0)]) / (view.radiograph.stored[::-1] * 2)


def state_of(assessment: Assessment) -> Dataset:
    state = presentation.presentation_state(assessment.views[0], assessment, 1)
    assert state is not None
    return state


def test_the_outline_is_around_the_peak_and_not_around_the_largest_area(cascade: Cascade) -> None:
    values = spot(1, 3)
    values[4:6, 2:6] = 0.55  # larger, hot enough, and not connected with it
    [view] = assessed(cascade, values).views
    heat = on_picture(view.result.heatmap, 480, 400)
    shown = hottest(heat)
    assert shown is not None
    on_page = np.concatenate([shown.outline.min(0), shown.outline.max(0)])
    np.testing.assert_allclose(box(view), on_page, atol=0.02)
    assert box(view)[3] < 0.4


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom", "ignore::UserWarning:highdicom")
@pytest.mark.parametrize(
    ("shape", "attributes", "aspect"),
    [
        ((60, 100), {"PixelAspectRatio": [2, 1]}, [2, 1]),
        ((120, 50), {"PixelSpacing": [0.1, 0.2]}, [1, 2]),
        ((120, 100), {}, [1, 1]),
    ],
)
def test_coordinates_are_those_of_the_pixels_of_the_source(
    cascade: Cascade,
    monkeypatch: pytest.MonkeyPatch,
    shape: tuple[int, int],
    attributes: dict[str, object],
    aspect: list[int],
) -> None:
    """The same picture, stored in fewer rows or columns, has the same outline in fractions."""
    rows, columns = shape
    pixels = phantom(120, 100, bits=12)[:: 120 // rows, :: 100 // columns]
    heat = spot(5, 2)
    square = assessed(cascade, heat)
    found = assessed(cascade, heat, pixels=np.ascontiguousarray(pixels), **attributes)
    [view] = found.views
    assert view.radiograph.pixels.shape == (120, 100)
    np.testing.assert_allclose(box(view), box(square.views[0]), atol=0.01)
    marked = corners(Mark(0, 0.1, 0.2, 0.3, 0.4), view)
    np.testing.assert_allclose(marked[2] / (columns, rows), (0.3, 0.4), atol=1e-9)
    state = state_of(found)
    [area] = state.DisplayedAreaSelectionSequence
    assert area.PresentationPixelAspectRatio == aspect
    assert area.DisplayedAreaBottomRightHandCorner == [columns, rows]
    [text] = state.GraphicAnnotationSequence[0].TextObjectSequence
    assert (np.array(text.AnchorPoint) < (columns, rows)).all()
    drawn: list[np.ndarray] = []
    monkeypatch.setattr(cv2, "polylines", lambda _picture, lines, *_: drawn.extend(lines))
    capture.drawing(view, found)
    on_capture = np.concatenate([drawn[0].min(0), drawn[0].max(0)]) / (427, 512, 427, 512)
    np.testing.assert_allclose(on_capture, box(view), atol=0.01)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom", "ignore::UserWarning:highdicom")
@pytest.mark.parametrize(
    ("interpretation", "shape", "said"),
    [
        ("MONOCHROME1", "IDENTITY", "INVERSE"),
        ("MONOCHROME2", "INVERSE", "INVERSE"),
        ("MONOCHROME2", "IDENTITY", "IDENTITY"),
    ],
)
def test_a_state_inverts_what_the_decoder_inverts(
    cascade: Cascade, interpretation: str, shape: str, said: str
) -> None:
    found = assessed(
        cascade,
        spot(2, 2),
        PhotometricInterpretation=interpretation,
        PresentationLUTShape=shape,
    )
    assert state_of(found).PresentationLUTShape == said


def test_the_capture_is_windowed_as_the_page_is(cascade: Cascade) -> None:
    """A VOI LUT that says 16 bits and uses 12 leaves a picture of dark grey values."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, 16])
    item.add_new("LUTData", "US", list(range(4096)))
    found = assessed(cascade, spot(2, 2), VOILUTSequence=[item])
    [view] = found.views
    assert view.radiograph.pixels.max() < 4096
    assert capture._display(view.radiograph.pixels).max() == 255
