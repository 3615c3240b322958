"""Small pictures made on the spot, encoded in every way that the decode boundary must know.

No real radiograph is in this repository: what looks like one here is two ellipses and noise.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)


def phantom(
    height: int = 48, width: int = 40, bits: int = 8, seed: int = 0
) -> NDArray[np.unsignedinteger[Any]]:
    """HxW uint8 or uint16 in [0, 2^bits): a bright shaft in softer tissue, not symmetric."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    tissue = (x / 0.8) ** 2 + (y / 1.2) ** 2 < 1
    bone = ((x - 0.15 * y) / 0.3) ** 2 + (y / 1.1) ** 2 < 1
    noise = np.random.default_rng(seed).normal(0, 0.01, (height, width))
    grey = 0.05 + 0.35 * tissue + 0.4 * bone + 0.1 * (y > 0.5) + noise
    return (grey.clip(0, 1) * (2**bits - 1)).astype(np.uint8 if bits <= 8 else np.uint16)


def blob(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """HxW: a bright disc somewhere on a ramp. Of two seeds there are two pictures."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 160, width)[None] * np.ones((height, 1))
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j] - rng.uniform(-0.5, 0.5, (2, 1, 1))
    disc = 90.0 * (np.hypot(y, x) < 0.4)
    return (ramp + disc + rng.uniform(0, 20, (height, width))).clip(0, 255).astype(np.uint8)


def encoded(pixels: NDArray[Any] | Image.Image, form: str, **options: Any) -> bytes:
    """A picture or an array as a PNG, JPEG, TIFF or WEBP file."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def dataset(pixels: NDArray[Any], **attributes: Any) -> Dataset:
    """A digital radiograph of HxW or HxWx3 integers; attributes replace or, as None, remove."""
    bits = 8 * pixels.dtype.itemsize
    ds = Dataset()
    ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.SOPInstanceUID = "1.2.826.0.1.3680043.10.1.1"
    ds.Modality, ds.PatientName, ds.PatientID = "DX", "Doe^Jane", "SECRET-42"
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    ds.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit = bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    for keyword, value in attributes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    if ds.BitsStored < bits:
        ds.HighBit = ds.BitsStored - 1
    return ds


def part10(ds: Dataset, syntax: str = ExplicitVRLittleEndian, frame: bytes = b"") -> bytes:
    """A data set as a DICOM file; frame is the compressed picture of an encapsulated syntax."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    if frame:
        ds.PixelData = encapsulate([frame])
    if "PixelData" in ds:
        ds["PixelData"].VR = "OB" if frame or ds.BitsAllocated == 8 else "OW"
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def dicom(pixels: NDArray[Any], **attributes: Any) -> bytes:
    """An uncompressed DICOM file of HxW or HxWx3 integers."""
    return part10(dataset(pixels, **attributes))


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """A copy with flipped bits, a missing end or a zeroed range."""
    broken = bytearray(data)
    kind = rng.integers(3)
    if kind == 0:
        for position in rng.integers(0, len(broken), rng.integers(1, 9)):
            broken[position] ^= 1 << rng.integers(8)
    elif kind == 1:
        del broken[rng.integers(len(broken)) :]
    else:
        start = int(rng.integers(len(broken)))
        length = min(int(rng.integers(1, 400)), len(broken) - start)
        broken[start : start + length] = bytes(length)
    return bytes(broken)
