"""The way of a DICOM grey value to the screen, in the standard's order (PS3.4 section N.2).

Stored value -> modality LUT or rescale -> VOI LUT or window -> inversion for MONOCHROME1 -> full
range of uint8 or uint16. The way is the same for equal stored values, so it is walked once for
each value that occurs (4,096 for 12 bits), and the millions of pixels take one table look-up.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from core.grey import Grey, scaled_to_16_bit

Values = NDArray[np.float64]
_INVERTED = "The file shows bone dark ({}): its grey values were inverted."


def displayed(stored: NDArray[Any], dataset: Dataset) -> tuple[Grey, list[str]]:
    """Stored values (HxW integers) -> what a viewer shows, and remarks."""
    low, high = int(stored.min()), int(stored.max())
    inverted = [_INVERTED.format(_inverse_by(dataset))] if is_inverse(dataset) else []
    if high - low > 0xFFFF:  # 32 bits stored: too many values for a table
        return _scaled(stored, dataset), [*_scaling(dataset), *inverted]
    shown, notes = _curve(stored, low, high, dataset)
    if inverted:
        shown = 1.0 - shown
    padding = _padding(dataset)
    if padding:  # what is no picture becomes background
        shown[max(padding[0] - low, 0) : max(padding[1] - low + 1, 0)] = 0.0
    dtype = np.uint8 if dataset.BitsStored <= 8 else np.uint16
    table = np.rint(shown * np.iinfo(dtype).max).astype(dtype)
    return _look_up(stored, low, table), [*notes, *inverted]


def _scaled(stored: NDArray[Any], dataset: Dataset) -> NDArray[np.uint16]:
    """All values but padding over the full range, bright where they are meant to be."""
    values = stored.astype(np.float64)
    padding = _padding(dataset)
    if padding:
        values[(stored >= padding[0]) & (stored <= padding[1])] = np.nan  # which becomes black
    falling = any(slope < 0 for slope in numbers(dataset, "RescaleSlope"))
    return scaled_to_16_bit(-values if falling != is_inverse(dataset) else values)


def _scaling(dataset: Dataset) -> list[str]:
    windowed = dataset.get("VOILUTSequence") or numbers(dataset, "WindowCenter")
    left = "; the display window in the file was not applied" if windowed else ""
    return [f"The grey values were scaled to 16 bit{left}."]


def _curve(stored: NDArray[Any], low: int, high: int, dataset: Dataset) -> tuple[Values, list[str]]:
    """For each stored value from low to high, the brightness in [0, 1] before inversion."""
    plain = np.arange(low, high + 1, dtype=np.float64)
    values = _modality(plain, dataset)
    shown, notes = _voi(values, dataset)
    if shown is not None:
        return shown, notes
    if dataset.BitsStored <= 8 and np.array_equal(values, plain):
        top = 2.0**dataset.BitsStored - 1
        bottom = -(top + 1) / 2 if dataset.PixelRepresentation else 0.0
        return np.clip((values - bottom) / top, 0.0, 1.0), notes
    first, last = _extent(stored, _padding(dataset))
    ends = values[first - low], values[last - low]
    span = (max(ends) - min(ends)) or 1.0
    notes.append("The file has no display window: its whole range of grey values is shown.")
    return np.clip((values - min(ends)) / span, 0.0, 1.0), notes


def _extent(stored: NDArray[Any], padding: tuple[int, int] | None) -> tuple[int, int]:
    """Smallest and largest stored value, leaving out padding unless there is nothing else."""
    if padding:
        image = stored[(stored < padding[0]) | (stored > padding[1])]
        if image.size:
            stored = image
    return int(stored.min()), int(stored.max())


def _padding(dataset: Dataset) -> tuple[int, int] | None:
    """Range of stored values that are no picture (Pixel Padding Value, PS3.3 C.7.5.1.1.2)."""
    value, limit = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if not isinstance(value, int):
        return None
    if not isinstance(limit, int):
        limit = value
    if dataset.PixelRepresentation:  # negative numbers, which some write as unsigned ones
        half = 1 << (dataset.BitsAllocated - 1)
        value, limit = (v - 2 * half if v >= half else v for v in (value, limit))
    return min(value, limit), max(value, limit)


def _modality(values: Values, dataset: Dataset) -> Values:
    """Modality LUT or rescale (PS3.3 C.11.1)."""
    if dataset.get("ModalityLUTSequence"):
        return _table(dataset.ModalityLUTSequence[0], values, dataset)[0].astype(np.float64)
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if slope and intercept is not None and math.isfinite(slope) and math.isfinite(intercept):
        return values * float(slope) + float(intercept)
    return values


def _voi(values: Values, dataset: Dataset) -> tuple[Values | None, list[str]]:
    """VOI LUT or window, the first of several (PS3.3 C.11.2): [0, 1], or None without either."""
    items = dataset.get("VOILUTSequence") or []
    if items and items[0].get("LUTDescriptor") and items[0].get("LUTData"):
        shown, top = _table(items[0], values, dataset)
        return shown / top, _first_of(len(items))
    centres, widths = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    if not centres or not widths:
        return None, []
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    windowed = window(values, centres[0], widths[0], function)
    if windowed is None:
        return None, ["The display window in the file is not valid and was ignored."]
    return windowed, _first_of(min(len(centres), len(widths)))


def _first_of(count: int) -> list[str]:
    return [f"The first of {count} display windows in the file is used."] if count > 1 else []


def window(values: Values, centre: float, width: float, function: str) -> Values | None:
    """Grey values -> [0, 1] by a window; None where the window has no meaning.

    function: LINEAR, LINEAR_EXACT or SIGMOID (PS3.3 C.11.2.1.2 and C.11.2.1.3).
    """
    if not math.isfinite(centre) or not math.isfinite(width) or width <= 0:
        return None
    if function == "SIGMOID":  # 1 / (1 + exp(-4 x)), written so that it cannot overflow
        return 0.5 + 0.5 * np.tanh(2.0 * (values - centre) / width)
    if function == "LINEAR":
        if width < 1:
            return None
        centre, width = centre - 0.5, max(width - 1.0, 1e-6)  # a width of 1 is a threshold
    elif function != "LINEAR_EXACT":
        return None
    return np.clip((values - centre) / width + 0.5, 0.0, 1.0)


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """All values of a decimal string, or none where one of them is no number."""
    try:
        value = dataset.get(keyword)
        if value is None:
            return []
        return [float(v) for v in ([value] if isinstance(value, (int, float)) else value)]
    except (TypeError, ValueError):
        return []


def _table(item: Dataset, values: Values, dataset: Dataset) -> tuple[Values, float]:
    """Values through a LUT (PS3.3 C.11.1.1.1 and C.11.2.1.1), and the largest output it has."""
    entries, first, bits = (int(v) for v in item.LUTDescriptor)
    entries = entries or 0x10000
    if first > 0x7FFF and values.min() < 0:  # a negative number that was read as unsigned
        first -= 0x10000
    lut = lut_data(item.LUTData, entries, dataset)[:entries]
    if not lut.size:
        raise ValueError("empty lookup table")
    index = np.clip(np.rint(values) - first, 0, lut.size - 1).astype(np.intp)
    return lut[index].astype(np.float64), float(max(2**bits - 1, int(lut.max())))


def lut_data(data: Any, entries: int, dataset: Dataset) -> NDArray[Any]:
    """LUT Data: a list of numbers (VR US) or 16-bit words (OW), of 8-bit entries two a word."""
    if not isinstance(data, bytes):
        return np.atleast_1d(np.asarray(data, np.int64)) & 0xFFFF
    if len(data) < 2 * entries:
        return np.frombuffer(data, np.uint8)
    little = dataset.file_meta.TransferSyntaxUID.is_little_endian
    return np.frombuffer(data, "<u2" if little else ">u2", count=entries)


def is_inverse(dataset: Dataset) -> bool:
    """Whether the smallest value is meant to be white (PS3.3 C.7.6.3.1.2).

    DX images say it twice, as MONOCHROME1 and with Presentation LUT Shape INVERSE (C.8.11.3), and
    mean it once.
    """
    return bool(_inverse_by(dataset))


def _inverse_by(dataset: Dataset) -> str:
    """What the file says it with; "" where it does not."""
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        return "MONOCHROME1"
    shape = str(dataset.get("PresentationLUTShape") or "").strip().upper()
    return "Presentation LUT Shape INVERSE" if shape == "INVERSE" else ""


def _look_up(stored: NDArray[Any], low: int, table: Grey) -> Grey:
    """table[stored - low], by OpenCV, because indexing in NumPy first widens indices to 64 bits.

    OpenCV wants one entry for each bit pattern, so negative values go to the table's upper half,
    where two's complement has them.
    """
    if stored.dtype.itemsize > 2:
        direct: Grey = table[stored - low]
        return direct
    bits = 8 * stored.dtype.itemsize
    complete = np.zeros(2**bits, table.dtype)
    complete[np.arange(low, low + table.size) & (2**bits - 1)] = table
    shown: Grey = cv2.LUT(np.ascontiguousarray(stored).view(f"u{bits // 8}"), complete)
    return shown
