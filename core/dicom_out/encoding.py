"""An object as a file and back; apart from what makes one, so that sending loads no network."""

from __future__ import annotations

import io

from pydicom.dataset import Dataset

from core import dicom


def encoded(item: Dataset) -> bytes:
    """The object as a file (PS3.10)."""
    file = io.BytesIO()
    item.save_as(file, enforce_file_format=True)
    return file.getvalue()


def read_own(data: bytes) -> Dataset:
    """An object that ``encoded`` wrote, for the network."""
    return dicom.whole(data)
