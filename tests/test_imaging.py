"""The decode boundary for PNG, JPEG, TIFF and WebP: values, limits, refusals."""

from __future__ import annotations

import logging
import os
import struct
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from core import imaging
from core.errors import ImageRejected
from core.settings import ImageLimits
from core.types import Radiograph
from tests.simulated import damaged, encoded, phantom
from tests.timing import quickest

LIMITS = ImageLimits()
GREY = phantom()
DEEP = phantom(bits=16)


def decode(data: bytes, **limits: int) -> Radiograph:
    return imaging.decode(data, "view.png", ImageLimits(**limits) if limits else LIMITS)


def refusal(data: bytes, **limits: int) -> str:
    with pytest.raises(ImageRejected) as caught:
        decode(data, **limits)
    reason = caught.value.reason
    assert reason.endswith(".") and reason[0].isupper() and "\n" not in reason
    return reason


# Values


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_lossless_8_bit_keeps_each_value(form: str) -> None:
    radiograph = decode(encoded(GREY, form, **({"lossless": True} if form == "WEBP" else {})))
    assert radiograph.format == form
    assert radiograph.pixels.dtype == np.uint8
    np.testing.assert_array_equal(radiograph.pixels, GREY)


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}, {"compression": "jpeg"}])
def test_tiff_compressions(options: dict[str, Any]) -> None:
    pixels = decode(encoded(GREY, "TIFF", **options)).pixels
    assert np.abs(pixels.astype(int) - GREY).mean() < (
        6 if options.get("compression") == "jpeg" else 0.01
    )


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_keeps_each_value(form: str) -> None:
    radiograph = decode(encoded(DEEP, form))
    assert radiograph.pixels.dtype == np.uint16
    assert len(np.unique(DEEP)) > 256
    np.testing.assert_array_equal(radiograph.pixels, DEEP)


def test_big_endian_16_bit_tiff() -> None:
    image = Image.frombytes("I;16B", DEEP.shape[::-1], DEEP.astype(">u2").tobytes())
    np.testing.assert_array_equal(decode(encoded(image, "TIFF")).pixels, DEEP)


def short_tag(data: bytes, tag: int, value: int, new: int) -> bytes:
    """A TIFF file with another value of a tag, its samples as they were."""
    old, other = (struct.pack("<HHII", tag, 3, 1, v) for v in (value, new))
    assert data.count(old) == 1
    return data.replace(old, other)


@pytest.mark.parametrize("pixels", [GREY, DEEP], ids=["8 bit", "16 bit"])
def test_tiff_where_white_is_zero(pixels: np.ndarray) -> None:
    """PhotometricInterpretation (tag 262) 0 instead of 1, with the stored values as they were."""
    data = encoded(pixels, "TIFF")
    negative = decode(short_tag(data, 262, 1, 0)).pixels
    np.testing.assert_array_equal(negative, np.invert(pixels))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg(mode: str, progressive: bool) -> None:
    image = Image.fromarray(GREY).convert(mode)
    radiograph = decode(encoded(image, "JPEG", quality=95, progressive=progressive))
    assert radiograph.format == "JPEG"
    assert radiograph.pixels.dtype == np.uint8
    assert np.abs(radiograph.pixels.astype(int) - GREY).mean() < 4


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_colour_becomes_luminance(form: str) -> None:
    image = Image.new("RGB", (40, 40), (200, 100, 50))
    assert np.unique(decode(encoded(image, form)).pixels).tolist() == [124]  # .299 .587 .114


def test_16_bit_colour_keeps_16_bits() -> None:
    # 12 bits in a 16-bit colour picture: Pillow alone would leave 16 grey levels.
    grey = phantom(bits=12)
    for suffix in (".png", ".tiff"):
        data = cv2.imencode(suffix, np.dstack([grey] * 3))[1].tobytes()
        radiograph = decode(data)
        assert radiograph.pixels.dtype == np.uint16
        np.testing.assert_array_equal(radiograph.pixels, grey)


def test_16_bit_colour_with_alpha() -> None:
    alpha = np.full(DEEP.shape, 65535, np.uint16)
    alpha[:10] = 0
    data = cv2.imencode(".png", np.dstack([DEEP, DEEP, DEEP, alpha]))[1].tobytes()
    pixels = decode(data).pixels
    assert not pixels[:10].any()
    np.testing.assert_array_equal(pixels[10:], DEEP[10:])


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_composited_on_black(mode: str, form: str) -> None:
    alpha = np.full(GREY.shape, 255, np.uint8)
    alpha[:10], alpha[10:20] = 0, 128
    layers = [GREY] * (len(mode) - 1)
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    image = Image.fromarray(np.dstack([*layers, alpha]), mode=None)
    assert image.mode == mode
    pixels = decode(encoded(image, form, **options)).pixels
    assert not pixels[:10].any()
    np.testing.assert_allclose(pixels[10:20], GREY[10:20] * (128 / 255), atol=1)
    np.testing.assert_array_equal(pixels[20:], GREY[20:])


def test_palette_with_and_without_transparency() -> None:
    image = Image.fromarray((GREY // 128).astype(np.uint8), mode=None).convert("P")
    image.putpalette([10, 10, 10, 90, 90, 90])
    expected = np.where(GREY >= 128, 90, 10)
    np.testing.assert_array_equal(decode(encoded(image, "PNG")).pixels, expected)
    see_through = decode(encoded(image, "PNG", transparency=b"\x00\xff")).pixels
    np.testing.assert_array_equal(see_through, np.where(GREY >= 128, 90, 0))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_one_bit(form: str) -> None:
    pixels = decode(encoded(Image.fromarray(GREY > 128), form)).pixels
    np.testing.assert_array_equal(pixels, np.where(GREY > 128, 255, 0))


def test_float_tiff_is_scaled_and_says_so() -> None:
    values = np.linspace(-2.0, 3.0, 1600, dtype=np.float32).reshape(40, 40)
    values[0, 1], values[0, 2] = np.nan, np.inf
    radiograph = decode(encoded(values, "TIFF"))
    assert radiograph.pixels.dtype == np.uint16
    assert radiograph.pixels[0, :3].tolist() == [0, 0, 65535]
    assert radiograph.pixels[-1, -1] == 65535
    assert radiograph.pixels[20, 0] == pytest.approx(65535 * 800 / 1599, abs=1)
    assert "scaled" in radiograph.notes[0]


def test_float_tiff_without_a_number_is_refused() -> None:
    assert "no valid grey value" in refusal(encoded(np.full((40, 40), np.nan, np.float32), "TIFF"))


def test_32_bit_tiff_that_fits_16_bits_keeps_its_values() -> None:
    radiograph = decode(encoded(DEEP.astype(np.int32), "TIFF"))
    np.testing.assert_array_equal(radiograph.pixels, DEEP)
    assert not radiograph.notes


def test_float_tiff_where_white_is_zero() -> None:
    values = np.linspace(-2.0, 3.0, 1600, dtype=np.float32).reshape(40, 40)
    values[0, 1] = np.nan
    positive = encoded(values, "TIFF")
    shown, negative = decode(positive).pixels, decode(short_tag(positive, 262, 1, 0)).pixels
    np.testing.assert_array_equal(negative[1:], np.invert(shown[1:]))
    assert negative[0, :2].tolist() == [65535, 0]


def test_unsigned_32_bit_tiff_does_not_wrap() -> None:
    values = np.linspace(0, 2**32 - 1, 1600).astype(np.uint32).reshape(40, 40)
    signed = encoded(values.view(np.int32), "TIFF")
    shown = decode(short_tag(signed, 339, 2, 1)).pixels
    np.testing.assert_allclose(shown, values / 2**32 * 65535, atol=1.5)
    assert shown[-1, -1] == 65535


def test_signed_8_bit_tiff_is_refused() -> None:
    unsigned = decode(tiff(GREY[..., None])).pixels
    np.testing.assert_array_equal(unsigned, GREY)
    assert "signed 8-bit" in refusal(tiff(GREY[..., None], (339, 2)))


@pytest.mark.parametrize(("meaning", "seen"), [(None, True), (0, True), (1, True), (2, False)])
def test_the_fourth_channel_of_16_bit_tiff_is_alpha_where_it_says_so(
    meaning: int | None, seen: bool
) -> None:
    """0: of no meaning; 1: the colours are multiplied by it already; 2: they are not."""
    pixels = np.dstack([DEEP, DEEP, DEEP, np.zeros_like(DEEP)])
    shown = decode(tiff(pixels, *([] if meaning is None else [(338, meaning)]))).pixels
    np.testing.assert_array_equal(shown, DEEP if seen else np.zeros_like(DEEP))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_exif_orientation(orientation: int, form: str) -> None:
    """Whatever turn the file asks for, the upright picture comes out."""
    upright = phantom(40, 64)
    # The inverse of each turn, as EXIF 2.32 defines where row 0 and column 0 are.
    turned = {
        1: upright,
        2: np.fliplr(upright),
        3: np.rot90(upright, 2),
        4: np.flipud(upright),
        5: upright.T,
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100}}.get(form, {})
    radiograph = decode(encoded(np.ascontiguousarray(turned), form, exif=exif, **options))
    assert radiograph.pixels.shape == (40, 64)
    assert np.abs(radiograph.pixels.astype(int) - upright).max() <= (4 if form == "JPEG" else 0)
    if form != "TIFF":  # Pillow turns a TIFF by itself
        assert bool(radiograph.notes) == (orientation != 1)


def test_exif_orientation_of_16_bit_pictures() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for form in ("PNG", "TIFF"):
        turned = np.ascontiguousarray(np.rot90(DEEP, 1))
        np.testing.assert_array_equal(decode(encoded(turned, form, exif=exif)).pixels, DEEP)


def tiff(pixels: np.ndarray, *more: tuple[int, int]) -> bytes:
    """HxWxC integers as an uncompressed TIFF with the tags it must have, and more (tag, value)."""
    height, width, samples = pixels.shape
    at, bits = 8 + pixels.nbytes, 8 * pixels.dtype.itemsize
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, samples, bits), (259, 3, 1, 1)]
    tags += [(262, 3, 1, 2 if samples > 1 else 1), (273, 4, 1, 8), (277, 3, 1, samples)]
    tags += [(278, 4, 1, height), (279, 4, 1, pixels.nbytes), (284, 3, 1, 1)]
    tags = sorted([*tags, *((tag, 3, 1, value) for tag, value in more)])
    if samples > 1:  # too long for their entry: behind the directory
        tags[2] = (258, 3, samples, at + 2 + len(tags) * 12 + 4)
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *t) for t in tags)
    end = bytes(4) + struct.pack("<H", bits) * samples
    return b"II*\0" + struct.pack("<I", at) + pixels.tobytes() + directory + end


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 1), (8, -1)])
def test_orientation_of_16_bit_colour_tiff(orientation: int, turns: int) -> None:
    turned = np.ascontiguousarray(np.rot90(DEEP, turns))
    pixels = decode(tiff(np.dstack([turned] * 3), (274, orientation))).pixels
    np.testing.assert_array_equal(pixels, DEEP)


@pytest.mark.parametrize("form", ["TIFF", "WEBP", "PNG"])
def test_first_of_several_pictures(form: str) -> None:
    second = Image.fromarray(GREY[::-1].copy())
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(GREY, form, save_all=True, append_images=[second], **options)
    radiograph = decode(data)
    np.testing.assert_array_equal(radiograph.pixels, GREY)
    assert "first" in radiograph.cautions[0]


def test_what_a_radiograph_carries() -> None:
    data = encoded(GREY, "PNG")
    radiograph = imaging.decode(data, "left hand.JPG", LIMITS)
    assert radiograph.format == "PNG"  # by its bytes, not by its name
    assert radiograph.name == "left hand.JPG"
    assert radiograph.sha256 == imaging.sha256(data)
    assert len(radiograph.sha256) == 64
    assert radiograph.pixel_spacing is None and radiograph.notes == ()
    assert radiograph.pixels.flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        radiograph.pixels[0, 0] = 1


# Limits


def bomb(form: str) -> bytes:
    if form == "WEBP":  # the largest that WebP knows, as a header without a picture
        sides = (16382).to_bytes(3, "little") * 2
        return b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + sides
    options = {"compression": "group4"} if form == "TIFF" else {}
    return encoded(Image.new("L" if form == "JPEG" else "1", (13_000, 13_000)), form, **options)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_bomb_is_refused_by_its_header(form: str) -> None:
    data = bomb(form)
    assert form == "JPEG" or len(data) < 30_000
    tracemalloc.start()
    reason = refusal(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "too large" in reason and ("13,000" in reason or "16,383" in reason)
    assert peak < 2**20
    assert quickest(lambda: refusal(data)) < 0.05


def test_limits_of_sides_pixels_and_bytes() -> None:
    data = encoded(GREY, "PNG")
    assert "too small" in refusal(data, min_side=41)
    assert "too large" in refusal(data, max_side=47)
    assert "megapixels" in refusal(data, max_pixels=48 * 40 - 1)
    assert "MB" in refusal(data, max_bytes=len(data) - 1)
    exact = decode(data, min_side=40, max_side=48, max_pixels=48 * 40, max_bytes=len(data))
    assert exact.pixels.shape == (48, 40)


def test_jpeg_of_too_many_scans_is_refused() -> None:
    data = encoded(GREY, "JPEG", progressive=True)
    assert "scans" in refusal(data[:-2] + b"\xff\xda" * 200 + data[-2:])


# Refusals


@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "progressive", "TIFF", "WEBP"])
def test_truncated_files_are_refused(form: str, fraction: float) -> None:
    options = {"progressive": True} if form == "progressive" else {}
    data = encoded(phantom(200, 160), "JPEG" if options else form, **options)
    refusal(data[: int(len(data) * fraction)])


def test_png_with_one_flipped_bit_is_refused() -> None:
    data = bytearray(encoded(GREY, "PNG"))
    data[len(data) // 2] ^= 1
    assert "checksums" in refusal(bytes(data))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"hello", "not a picture"),
        (b"\0" * 4000, "not a picture"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"GIF89a" + bytes(40), "GIF"),
        (b"PK\x03\x04" + bytes(40), "ZIP"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
        (b"\x08\x00\x05\x00" + bytes(400), "DICOM without its file header"),
        (b"\x89PNG\r\n\x1a\n", "PNG file"),
        (b"\xff\xd8\xff", "JPEG file"),
        (b"II*\0", "TIFF file"),
        (b"RIFF\0\0\0\0WEBP", "WEBP file"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WEBP file"),
        (bytes(128) + b"DICM", "DICOM file"),
    ],
)
def test_a_refusal_says_what_is_wrong(data: bytes, words: str) -> None:
    assert words in refusal(data)


@pytest.mark.parametrize(
    "error",
    [
        OSError,
        SyntaxError,
        ValueError,
        AttributeError,
        NotImplementedError,
        TypeError,
        KeyError,
        RecursionError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ],
)
def test_every_lower_error_is_mapped(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said = "-".join(("Doe", "1956"))  # pydicom quotes values in its messages

    def fail(*_: object) -> None:
        raise error(said)

    monkeypatch.setattr(imaging, "_decode", fail)
    with caplog.at_level(logging.INFO), pytest.raises(ImageRejected) as caught:
        imaging.decode(encoded(GREY, "PNG"), "Doe_Jane.png", LIMITS)
    assert isinstance(caught.value.__cause__, error)
    assert error.__name__ in caplog.text and "in fail" in caplog.text
    assert said not in caplog.text and "Doe_Jane" not in caplog.text
    assert "Doe" not in caught.value.reason


def test_memory_error_has_its_own_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(imaging, "_decode", fail)
    assert "memory" in refusal(encoded(GREY, "PNG"))


def test_pillows_settings_are_left_alone() -> None:
    from PIL import ImageFile

    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    decode(encoded(GREY, "JPEG"))
    refusal(bomb("PNG"))
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_threads_do_not_disturb_each_other() -> None:
    pictures = [phantom(64, 48, 16, seed) for seed in range(8)]
    files = [encoded(p, f) for p in pictures for f in ("PNG", "TIFF")]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(decode, files * 5))
    for index, radiograph in enumerate(results):
        np.testing.assert_array_equal(radiograph.pixels, pictures[index % 16 // 2])


# TIFF tags that a flipped bit has made unknown give warnings; they are not what is tested here.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["PNG", "JPEG", "progressive", "TIFF", "LZW", "WEBP", "lossless"])
def test_damage_never_raises_anything_else(form: str) -> None:
    name, options = {
        "progressive": ("JPEG", {"progressive": True}),
        "LZW": ("TIFF", {"compression": "tiff_lzw"}),
        "lossless": ("WEBP", {"lossless": True}),
    }.get(form, (form, {}))
    data = encoded(GREY, name, **options)
    rng = np.random.default_rng(42)
    refused = 0
    for _ in range(150):
        try:
            assert decode(damaged(data, rng)).pixels.dtype in (np.uint8, np.uint16)
        except ImageRejected:
            refused += 1
    assert refused > 30


# Reading from the disk


def test_read(tmp_path: Path) -> None:
    path = tmp_path / "view"
    path.write_bytes(encoded(GREY, "PNG"))
    radiograph = imaging.read(path, LIMITS)
    assert radiograph.name == "view"
    np.testing.assert_array_equal(radiograph.pixels, GREY)
    np.testing.assert_array_equal(imaging.read(str(path), LIMITS).pixels, GREY)


def test_read_refuses_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "missing.png", "does not exist"),
        (tmp_path, "folder"),
        (tmp_path / "pipe", "not an ordinary file"),
        (tmp_path / ("x" * 5000), "could not be read"),
        ("a\0b", "could not be read"),
    ):
        with pytest.raises(ImageRejected, match=words):
            imaging.read(path, LIMITS)


def test_read_checks_the_size_before_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "huge.tif"
    with path.open("wb") as file:
        file.truncate(200 * 2**20)  # sparse: takes no space
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("the file was opened"))
    with pytest.raises(ImageRejected, match=r"200\.0 MB"):
        imaging.read(path, LIMITS)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_read_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(GREY, "PNG"))
    path.chmod(0)
    with pytest.raises(ImageRejected, match="permission"):
        imaging.read(path, LIMITS)
