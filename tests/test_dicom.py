"""DICOM through the decode boundary: values against pydicom's own functions, and refusals."""

from __future__ import annotations

import dataclasses
import io
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut, apply_windowing
from pydicom.pixels.utils import compress
from pydicom.uid import (
    MPEG2MPML,
    UID,
    BasicTextSRStorage,
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from core import dicom as dicom_module
from core import imaging
from core.errors import ImageRejected
from core.grey import luminance
from core.lut import window
from core.settings import ImageLimits
from core.types import Radiograph
from tests.simulated import damaged, dataset, dicom, encoded, part10, phantom
from tests.timing import quickest

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
GREY12 = phantom(bits=12)
GREY8 = phantom()
TWELVE = {"BitsStored": 12}
ANY_SIZE = ImageLimits(min_side=1)


def decode(data: bytes, limits: ImageLimits = ANY_SIZE) -> Radiograph:
    return imaging.decode(data, "IM000001", limits)


def refusal(data: bytes, limits: ImageLimits = ANY_SIZE) -> str:
    with pytest.raises(ImageRejected) as caught:
        decode(data, limits)
    assert caught.value.reason.endswith(".")
    return caught.value.reason


def full_range(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Grey values from [low, high] to uint16."""
    return np.clip((values - low) / (high - low), 0, 1) * 65535


# Grey values


def test_no_window_takes_the_full_range_and_says_so() -> None:
    radiograph = decode(dicom(GREY12, **TWELVE))
    assert radiograph.format == "DICOM"
    assert radiograph.pixels.dtype == np.uint16
    expected = full_range(GREY12.astype(float), GREY12.min(), GREY12.max())
    np.testing.assert_allclose(radiograph.pixels, expected, atol=0.5)
    assert any("no display window" in note for note in radiograph.notes)


def test_8_bit_without_window_keeps_each_value() -> None:
    radiograph = decode(dicom(GREY8))
    assert radiograph.pixels.dtype == np.uint8
    np.testing.assert_array_equal(radiograph.pixels, GREY8)
    assert radiograph.notes == ()


def test_monochrome1_is_the_exact_inverse() -> None:
    options = {**TWELVE, "WindowCenter": 1500, "WindowWidth": 2000}
    positive = decode(dicom(GREY12, **options)).pixels
    negative = decode(dicom(GREY12, **options, PhotometricInterpretation="MONOCHROME1"))
    assert np.abs(negative.pixels.astype(int) - (65535 - positive.astype(int))).max() <= 1
    assert any("inverted" in note for note in negative.notes)
    one = decode(dicom(GREY8, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(one.pixels, 255 - GREY8)


@pytest.mark.parametrize(
    ("interpretation", "shape", "inverted"),
    [
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", "INVERSE", True),  # as DX says it: once, not twice
        ("MONOCHROME1", "IDENTITY", True),
    ],
)
def test_presentation_lut_shape(interpretation: str, shape: str, inverted: bool) -> None:
    data = dicom(GREY8, PhotometricInterpretation=interpretation, PresentationLUTShape=shape)
    expected = 255 - GREY8 if inverted else GREY8
    radiograph = decode(data)
    np.testing.assert_array_equal(radiograph.pixels, expected)
    said = interpretation if interpretation == "MONOCHROME1" else "Presentation LUT Shape INVERSE"
    assert bool(radiograph.notes) == inverted and all(said in n for n in radiograph.notes)


def lut(first: int, values: np.ndarray, bits: int) -> list[Dataset]:
    item = Dataset()
    item.LUTDescriptor = [len(values) % 65536, first, bits]
    item.LUTData = values.astype("<u2").tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "SS" if first < 0 else "US", "OW"
    return [item]


RAMP = np.arange(4096) ** 2 // 4096
LINEAR = {"WindowCenter": 1800, "WindowWidth": 1500}
CASES: dict[str, dict[str, Any]] = {
    "linear": LINEAR,
    "linear, several": {"WindowCenter": [1800, 100], "WindowWidth": [1500, 50]},
    "linear of width 1": {"WindowCenter": 1800, "WindowWidth": 1},
    "exact": {**LINEAR, "VOILUTFunction": "LINEAR_EXACT"},
    "sigmoid": {**LINEAR, "VOILUTFunction": "SIGMOID"},
    "rescaled": {"RescaleSlope": 2.5, "RescaleIntercept": -1024, **LINEAR},
    "modality LUT": {"ModalityLUTSequence": lut(0, 4095 - RAMP, 16), **LINEAR},
    "late modality LUT": {"ModalityLUTSequence": lut(500, RAMP[::2], 16), **LINEAR},
    "VOI LUT": {"VOILUTSequence": lut(0, RAMP, 12)},
    "VOI LUT before window": {"VOILUTSequence": lut(300, RAMP[::4], 12), **LINEAR},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("signed", [False, True])
def test_table_equals_pydicom_on_the_whole_picture(case: str, signed: bool) -> None:
    """The look-up table gives what pydicom's functions give, within rounding."""
    pixels = GREY12.astype(np.int16) - 700 if signed else GREY12
    ds = dataset(pixels, **CASES[case], **({} if signed else TWELVE))
    data = part10(ds)
    expected = apply_voi_lut(apply_modality_lut(pixels, ds), ds).astype(float)
    if "VOILUTSequence" in ds:
        low, high = 0.0, 4095.0
    else:  # pydicom spreads a window over the range of its input
        ends = np.array([-1e5, 1e5])
        low, high = apply_windowing(ends, ds)
    radiograph = decode(data)
    np.testing.assert_allclose(radiograph.pixels, full_range(expected, low, high), atol=0.51)
    assert any("first of 2" in note for note in radiograph.notes) == ("several" in case)
    assert not any("no display window" in note for note in radiograph.notes)


def test_window_blackens_below_and_whitens_above() -> None:
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    pixels = decode(dicom(ramp, **TWELVE, WindowCenter=2048, WindowWidth=1001)).pixels.ravel()
    assert not pixels[:1548].any()
    assert (pixels[2549:] == 65535).all()
    assert abs(int(pixels[2048]) - 32768) < 70
    assert (np.diff(pixels[1548:2548].astype(int)) > 0).all()


def test_8_bit_lut_in_packed_words_and_as_numbers() -> None:
    """256 entries of 8 bits, two in a word; pydicom's own function cannot read these."""
    packed = lut(0, np.arange(1), 8)
    packed[0].LUTDescriptor = [256, 0, 8]
    packed[0].LUTData = bytes(range(255, -1, -1))
    np.testing.assert_array_equal(decode(dicom(GREY8, VOILUTSequence=packed)).pixels, 255 - GREY8)
    numbers = lut(0, np.arange(1), 8)
    numbers[0].LUTDescriptor = [256, 0, 8]
    numbers[0]["LUTData"].VR = "US"
    numbers[0].LUTData = list(range(256))
    np.testing.assert_array_equal(decode(dicom(GREY8, VOILUTSequence=numbers)).pixels, GREY8)


def test_8_bit_voi_lut_of_12_bit_values() -> None:
    """pydicom's index wraps at 256 here; the standard's does not (PS3.3 C.11.2.1.1)."""
    pixels = decode(dicom(GREY12, **TWELVE, VOILUTSequence=lut(0, np.arange(4096) >> 4, 8))).pixels
    np.testing.assert_allclose(pixels, (GREY12 >> 4) * 257.0, atol=1)


def test_voi_lut_after_rescale_gives_no_warning() -> None:
    data = dicom(
        GREY12, **TWELVE, RescaleSlope=1, RescaleIntercept=0, VOILUTSequence=lut(0, RAMP, 12)
    )
    np.testing.assert_allclose(decode(data).pixels, RAMP[GREY12] / 4095 * 65535, atol=0.51)


def test_negative_rescale_slope_inverts_once() -> None:
    data = dicom(GREY12, **TWELVE, RescaleSlope=-1, RescaleIntercept=4095, **LINEAR)
    shown = window(4095.0 - GREY12, 1800, 1500, "LINEAR")
    assert shown is not None
    np.testing.assert_allclose(decode(data).pixels, shown * 65535, atol=0.51)


@pytest.mark.parametrize(
    "voi",
    [
        {"WindowCenter": 100, "WindowWidth": 0},
        {"WindowCenter": 100, "WindowWidth": -5},
        {**LINEAR, "VOILUTFunction": "MAGIC"},
        {**LINEAR, "WindowWidth": 0.5},
    ],
)
def test_invalid_window_is_ignored_and_says_so(voi: dict[str, Any]) -> None:
    radiograph = decode(dicom(GREY12, **TWELVE, **voi))
    assert radiograph.pixels.max() == 65535 and radiograph.pixels.min() == 0
    assert any("not valid" in note for note in radiograph.notes)


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("vr", ["SS", "US"])
def test_padding_does_not_set_the_scale_and_becomes_black(interpretation: str, vr: str) -> None:
    pixels = GREY12.astype(np.int16)
    pixels[:8] = -32768
    ds = dataset(pixels, PhotometricInterpretation=interpretation)
    # As a number without a sign, too, as some devices write it.
    ds.add_new("PixelPaddingValue", vr, -32768 if vr == "SS" else 32768)
    shown = decode(part10(ds)).pixels
    assert not shown[:8].any()
    assert shown[8:].min() == 0 and shown[8:].max() == 65535
    expected = full_range(GREY12[8:].astype(float), GREY12[8:].min(), GREY12[8:].max())
    if interpretation == "MONOCHROME1":
        expected = 65535 - expected
    np.testing.assert_allclose(shown[8:], expected, atol=0.51)


def test_padding_range() -> None:
    pixels = GREY12.copy()
    pixels[:4], pixels[4:8] = 4000, 4095
    data = dicom(pixels, **TWELVE, PixelPaddingValue=4000, PixelPaddingRangeLimit=4095)
    shown = decode(data).pixels
    assert not shown[:8].any() and shown[8:].max() == 65535


def test_32_bit_values_are_scaled() -> None:
    radiograph = decode(dicom(GREY12.astype(np.uint32) * 100_000))
    expected = full_range(GREY12.astype(float), GREY12.min(), GREY12.max())
    np.testing.assert_allclose(radiograph.pixels, expected, atol=1)


def test_32_bit_padding_is_told_by_what_is_stored_and_the_window_is_said_to_be_left_out() -> None:
    pixels = GREY12.astype(np.uint32) * 100_000
    pixels[:8] = 7  # within the range that the rest is scaled to
    attributes = {"PixelPaddingValue": 7, "RescaleSlope": -1, "RescaleIntercept": 0, **LINEAR}
    radiograph = decode(dicom(pixels, **attributes))
    rest = GREY12[8:].astype(float)
    assert not radiograph.pixels[:8].any()
    expected = full_range(rest.max() - rest, 0, rest.max() - rest.min())  # the slope is negative
    np.testing.assert_allclose(radiograph.pixels[8:], expected, atol=1)
    assert "the display window in the file was not applied" in " ".join(radiograph.notes)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_values_that_stand_high_in_their_words(syntax: UID, signed: bool) -> None:
    """High Bit 14 of 12 bits stored: what stands above and below belongs to something else."""
    values = GREY12.astype(np.int16) - 2048 if signed else GREY12
    words = (values.astype(np.int16) << 3).view(np.uint16) & 0x7FF8 | 0x8005
    words = words.view(np.int16) if signed else words
    ds = dataset(words, **TWELVE, WindowCenter=0 if signed else 2048, WindowWidth=4096)
    ds.HighBit = 14
    part10(ds)
    if syntax == RLELossless:
        ds.compress(RLELossless)
    shown = decode(part10(ds, syntax)).pixels
    np.testing.assert_allclose(shown, full_range(GREY12.astype(float), 0, 4095), atol=9)


def test_a_wrong_high_bit_moves_nothing() -> None:
    """Said to stand high, but no word is larger than a value at the bottom can be."""
    ds = dataset(GREY12, **TWELVE, WindowCenter=2048, WindowWidth=4096)
    ds.HighBit = 15
    shown = decode(part10(ds)).pixels
    np.testing.assert_allclose(shown, full_range(GREY12.astype(float), 0, 4095), atol=9)


def test_constant_picture() -> None:
    assert not decode(dicom(np.full((40, 40), 7, np.uint16), **TWELVE)).pixels.any()


# Colour and frames


@pytest.mark.parametrize("intercept", [-1024, -128, 300])
def test_eight_bits_that_are_moved_are_shown_by_their_range(intercept: int) -> None:
    moved = decode(dicom(GREY8, RescaleSlope=1, RescaleIntercept=intercept))
    low, high = float(GREY8.min()), float(GREY8.max())
    np.testing.assert_array_equal(moved.pixels, np.rint((GREY8 - low) / (high - low) * 255))
    assert any("no display window" in note for note in moved.notes)
    same = decode(dicom(GREY8, RescaleSlope=1, RescaleIntercept=0))
    np.testing.assert_array_equal(same.pixels, GREY8)


def test_rgb_and_palette_become_luminance() -> None:
    colour = np.zeros((40, 40, 3), np.uint8)
    colour[:] = 200, 100, 50
    assert np.unique(decode(dicom(colour)).pixels).tolist() == [124]
    ds = dataset(GREY8, PhotometricInterpretation="PALETTE COLOR")
    for name in ("Red", "Green", "Blue"):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        inverse = (np.arange(255, -1, -1) * 257).astype("<u2")
        setattr(ds, f"{name}PaletteColorLookupTableData", inverse.tobytes())
    np.testing.assert_allclose(decode(part10(ds)).pixels, (255 - GREY8) * 257.0, atol=1)


def test_first_of_several_frames() -> None:
    both = np.stack([GREY8, GREY8[::-1]])
    radiograph = decode(dicom(GREY8, NumberOfFrames=2, PixelData=both.tobytes()))
    np.testing.assert_array_equal(radiograph.pixels, GREY8)
    assert any("2 frames" in note for note in radiograph.notes)


# Transfer syntaxes


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_uncompressed_syntaxes(syntax: UID) -> None:
    plain = decode(dicom(GREY12, **TWELVE)).pixels
    np.testing.assert_array_equal(decode(part10(dataset(GREY12, **TWELVE), syntax)).pixels, plain)


def test_big_endian() -> None:
    ds = dataset(GREY12, **TWELVE, PixelData=GREY12.astype(">u2").tobytes())
    plain = decode(dicom(GREY12, **TWELVE)).pixels
    np.testing.assert_array_equal(decode(part10(ds, ExplicitVRBigEndian)).pixels, plain)


@pytest.mark.parametrize(
    ("syntax", "package"),
    [(RLELossless, "pydicom"), (JPEGLSLossless, "jpeg_ls"), (JPEG2000Lossless, "openjpeg")],
)
def test_lossless_compressions(syntax: UID, package: str) -> None:
    pytest.importorskip(package)
    ds = dataset(GREY12, **TWELVE)
    data = part10(ds)
    compress(ds, syntax, generate_instance_uid=False)
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    np.testing.assert_array_equal(decode(file.getvalue()).pixels, decode(data).pixels)


def test_jpeg_baseline_and_its_truncation() -> None:
    frame = encoded(GREY8, "JPEG", quality=95)
    pixels = decode(part10(dataset(GREY8), JPEGBaseline8Bit, frame)).pixels
    assert np.abs(pixels.astype(int) - GREY8).mean() < 4
    refusal(part10(dataset(GREY8), JPEGBaseline8Bit, frame[: len(frame) * 2 // 3]))


def test_colour_jpeg_lossless() -> None:
    pytest.importorskip("imagecodecs")
    same = decode((BUNDLED / "SC_rgb_rle.dcm").read_bytes()).pixels
    np.testing.assert_array_equal(
        decode((BUNDLED / "SC_rgb_jpeg_gdcm.dcm").read_bytes()).pixels, same
    )


@pytest.mark.parametrize("signed", [False, True])
def test_12_bit_jpeg_lossless_and_its_truncation(signed: bool) -> None:
    """The most common compression in radiography (1.2.840.10008.1.2.4.70)."""
    imagecodecs = pytest.importorskip("imagecodecs")
    pixels = GREY12.astype(np.int16) - 2048 if signed else GREY12
    frame = imagecodecs.jpeg8_encode(
        (pixels & 0xFFF).astype(np.uint16), lossless=True, bitspersample=12
    )
    data = part10(dataset(pixels, **TWELVE), JPEGLosslessSV1, frame)
    np.testing.assert_array_equal(decode(data).pixels, decode(dicom(pixels, **TWELVE)).pixels)
    for fraction in (0.5, 0.9, 0.99):
        cut = frame[: int(len(frame) * fraction)]
        assert "incomplete" in refusal(part10(dataset(pixels, **TWELVE), JPEGLosslessSV1, cut))


def test_12_bit_lossy_jpeg() -> None:
    pytest.importorskip("imagecodecs")
    radiograph = imaging.read(BUNDLED / "JPGExtended.dcm", ANY_SIZE)
    assert radiograph.pixels.shape == (1024, 256)
    assert len(np.unique(radiograph.pixels)) > 200


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGExtended12Bit, MPEG2MPML])
def test_missing_decoder_is_named(syntax: UID, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_module, "find_spec", lambda name: None)
    data = part10(dataset(GREY12, **TWELVE), syntax, encoded(GREY8, "JPEG"))
    assert syntax.name in refusal(data)


def test_missing_plugin_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_module, "_PREFERRED_PLUGINS", ())
    data = part10(dataset(GREY8), JPEGBaseline8Bit, encoded(GREY8, "JPEG"))
    assert "JPEG Baseline" in refusal(data)


@pytest.mark.filterwarnings("ignore")
def test_jpeg_2000_inside_jp2_boxes() -> None:
    pytest.importorskip("openjpeg")
    data = (BUNDLED / "GDCMJ2K_TextGBR.dcm").read_bytes()
    start = data.index(b"jP  ") + 8
    expected = luminance(pydicom.dcmread(io.BytesIO(data)).pixel_array)
    np.testing.assert_array_equal(decode(data).pixels, expected)
    # A box of length 0, on which pydicom 3.0.2 by itself never ends.
    endless = data[:start] + bytes(4) + data[start + 4 :]
    np.testing.assert_array_equal(decode(endless).pixels, expected)


def test_large_picture_behind_a_small_header_is_refused() -> None:
    inside = encoded(phantom(400, 300), "JPEG")
    assert "do not fit" in refusal(part10(dataset(GREY8), JPEGBaseline8Bit, inside))


# What goes with the picture


@pytest.mark.parametrize(
    ("attributes", "spacing", "words"),
    [
        (
            {"PixelSpacing": [0.2, 0.1], "ImagerPixelSpacing": [0.3, 0.3]},
            (0.1, 0.1),
            "Pixel Spacing",
        ),
        ({"ImagerPixelSpacing": [0.15, 0.15]}, (0.15, 0.15), "at the detector"),
        ({"PixelSpacing": [0, 0.1]}, None, ""),
        ({}, None, ""),
    ],
)
def test_pixel_spacing(attributes: dict[str, Any], spacing: Any, words: str) -> None:
    radiograph = decode(dicom(GREY8, **attributes))
    assert radiograph.pixel_spacing == (spacing and pytest.approx(spacing))
    assert words in " ".join(radiograph.notes)


@pytest.mark.parametrize(
    ("attributes", "shape", "spacing"),
    [
        ({"PixelAspectRatio": [2, 1]}, (96, 40), None),
        ({"PixelAspectRatio": [3, 4]}, (48, 53), None),
        ({"ImagerPixelSpacing": [0.2, 0.4]}, (48, 80), (0.2, 0.2)),
        ({"PixelSpacing": [0.1, 0.1], "PixelAspectRatio": [2, 1]}, (48, 40), (0.1, 0.1)),
        ({"PixelSpacing": [0.1005, 0.1]}, (48, 40), (0.1005, 0.1)),
        ({"PixelAspectRatio": [0, 1]}, (48, 40), None),
        ({"PixelSpacing": [5, 0.1]}, (48, 40), None),  # 50 times as high as wide
    ],
)
def test_pixels_become_square(attributes: dict[str, Any], shape: Any, spacing: Any) -> None:
    radiograph = decode(dicom(GREY8, **attributes))
    assert radiograph.pixels.shape == shape and radiograph.stored == (48, 40)
    assert radiograph.pixel_spacing == (spacing and pytest.approx(spacing))
    changed = shape != (48, 40)
    assert changed == any("stretched to square" in note for note in radiograph.notes)
    assert ("not believed" in " ".join(radiograph.notes)) == (
        attributes.get("PixelSpacing") == [5, 0.1]
    )
    back = cv2.resize(radiograph.pixels, (40, 48), interpolation=cv2.INTER_AREA)
    assert np.abs(back.astype(int) - GREY8).mean() < (4 if changed else 1e-9)


def test_square_pixels_keep_within_the_limits() -> None:
    wide = dicom(phantom(100, 300), PixelAspectRatio=[1, 4])
    radiograph = decode(wide, ImageLimits(max_side=600, min_side=1))
    assert radiograph.pixels.shape == (50, 600)
    radiograph = decode(wide, ImageLimits(max_pixels=30_000, min_side=1))
    assert radiograph.pixels.shape == (50, 600)
    assert "too small" in refusal(wide, ImageLimits(max_side=300))


def test_remarks() -> None:
    options = {"Modality": "CT", "LossyImageCompression": "01"}
    radiograph = decode(dicom(GREY8, **options, PresentationIntentType="FOR PROCESSING"))
    modality, raw = radiograph.cautions
    assert "modality CT" in modality and "raw detector data" in raw
    assert radiograph.notes == ("The picture has undergone lossy compression.",)


def test_no_identity_leaves_the_file() -> None:
    radiograph = decode(dicom(GREY12, **TWELVE))
    text = repr(dataclasses.replace(radiograph, pixels=np.zeros((1, 1), np.uint8)))
    assert "Doe" not in text and "SECRET" not in text


# Refusals


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"SOPClassUID": EncapsulatedPDFStorage}, "PDF"),
        ({"SOPClassUID": BasicTextSRStorage}, "report"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, "segmentation"),
        ({"Rows": 0}, "no picture"),
        ({"Rows": None}, "no picture"),
        ({"PixelData": None}, "incomplete"),
        ({"PhotometricInterpretation": None}, "unknown kind"),
        ({"PhotometricInterpretation": "SEPIA"}, "SEPIA"),
        ({"PixelData": b"\0\0"}, "incomplete"),
        ({"BitsAllocated": 7}, "damaged"),
        ({"NumberOfFrames": -1}, "frames"),
        ({"Rows": 60_000, "Columns": 60_000}, "too large"),
        ({"Rows": 8_000, "Columns": 8_000, "NumberOfFrames": 50}, "too large"),
    ],
)
def test_a_refusal_says_what_is_wrong(attributes: dict[str, Any], words: str) -> None:
    reason = refusal(dicom(GREY8, **attributes))
    assert words in reason


def test_too_small() -> None:
    assert "too small" in refusal(dicom(GREY8), ImageLimits(min_side=41))


def test_truncated_file_is_refused() -> None:
    data = dicom(GREY12, **TWELVE)
    for fraction in (0.1, 0.5, 0.9, 0.99):
        refusal(data[: int(len(data) * fraction)])


def test_deflated_bomb_is_refused_without_unpacking_it() -> None:
    ds = dataset(GREY8)
    del ds.PixelData
    head = part10(ds, DeflatedExplicitVRLittleEndian)
    start = head.index(b"1.2.840.10008.1.2.1.99")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(40)) + packer.flush()
    meta_end = 144 + int.from_bytes(head[140:144], "little")
    assert start < meta_end
    limits = ImageLimits(max_bytes=2**20, min_side=1)
    tracemalloc.start()
    reason = refusal(head[:meta_end] + packed, limits)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "unpacks" in reason
    assert peak < 8 * 2**20


def test_large_header_is_refused_quickly() -> None:
    data = dicom(GREY8, Rows=50_000, Columns=50_000)
    refusal(data)  # imports pydicom the first time
    assert quickest(lambda: refusal(data)) < 0.05


def bundled_files() -> list[Path]:
    return sorted(path for path in BUNDLED.rglob("*") if path.is_file())


# pydicom warns about many of these files, which are broken on purpose.
@pytest.mark.filterwarnings("ignore")
def test_every_bundled_file_decodes_or_is_refused() -> None:
    decoded = {}
    for path in bundled_files():
        try:
            radiograph = imaging.read(path, ANY_SIZE)
        except ImageRejected as refused:
            assert refused.reason.endswith(".")
            continue
        decoded[path.name] = radiograph
        assert radiograph.pixels.ndim == 2 and radiograph.pixels.dtype in (np.uint8, np.uint16)
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        assert radiograph.stored == (ds.Rows, ds.Columns)
    assert len(decoded) >= 60
    assert "MR_truncated.dcm" not in decoded and "test-SR.dcm" not in decoded


@pytest.mark.filterwarnings("ignore")
def test_threads_do_not_disturb_each_other() -> None:
    names = ("MR_small_RLE", "MR_small_jpeg_ls_lossless", "MR_small_jp2klossless", "MR_small")
    files = [(BUNDLED / f"{name}.dcm").read_bytes() for name in names]
    expected = decode(files[-1]).pixels
    with ThreadPoolExecutor(4) as pool:
        for radiograph in pool.map(decode, files * 10):
            np.testing.assert_array_equal(radiograph.pixels, expected)


def compressed_files() -> dict[str, bytes]:
    windowed = {**TWELVE, **LINEAR, "RescaleSlope": 1, "RescaleIntercept": 0}
    return {
        "native": dicom(GREY12, **windowed),
        "deflated": part10(dataset(GREY12, **TWELVE), DeflatedExplicitVRLittleEndian),
        "jpeg": part10(dataset(GREY8), JPEGBaseline8Bit, encoded(GREY8, "JPEG")),
        "rle": (BUNDLED / "MR_small_RLE.dcm").read_bytes(),
        "jpeg-ls": (BUNDLED / "MR_small_jpeg_ls_lossless.dcm").read_bytes(),
        "jpeg 2000": (BUNDLED / "MR_small_jp2klossless.dcm").read_bytes(),
        "jpeg lossless": (BUNDLED / "SC_rgb_jpeg_gdcm.dcm").read_bytes(),
        "lut": dicom(GREY12, **TWELVE, **CASES["VOI LUT"]),
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", compressed_files())
def test_damage_never_raises_anything_else(kind: str) -> None:
    data = compressed_files()[kind]
    rng = np.random.default_rng(7)
    refused = 0
    for _ in range(120):
        try:
            assert decode(damaged(data, rng)).pixels.dtype in (np.uint8, np.uint16)
        except ImageRejected:
            refused += 1
    assert refused > 20
