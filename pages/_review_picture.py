"""A view of a study on the page Review: the picture with its heatmap and its mark drawn in."""

from __future__ import annotations

import cv2
import streamlit as st

from core import imaging
from core.display import to_8_bit
from core.explain import on_picture, overlay
from core.settings import Settings
from core.store import Mark
from core.types import Heatmap

SIDE = 1440
OPACITY = 0.5
MARK = (240, 179, 87)


def draw(data: bytes, heatmap: Heatmap | None, mark: Mark | None, alt: str) -> None:
    """data: an encoded file. Raises ImageRejected where it cannot be read any more."""
    radiograph = imaging.decode(data, "", Settings.from_environment().limits)
    grey = to_8_bit(radiograph.pixels, SIDE)
    picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    hot = heatmap is not None and heatmap.has_evidence
    if heatmap is not None and hot and st.toggle("Heatmap", value=True, key="heat"):
        picture = overlay(grey, on_picture(heatmap, *grey.shape), OPACITY)
    if mark is not None:
        height, width = grey.shape
        corners = [(int(x * width), int(y * height)) for x, y in _corners(mark)]
        cv2.rectangle(picture, *corners, MARK, 2)
    with st.container(key="picture-review"):
        st.image(picture, width="stretch", output_format="JPEG", alt=alt)


def _corners(mark: Mark) -> tuple[tuple[float, float], tuple[float, float]]:
    return (mark.x0, mark.y0), (mark.x1, mark.y1)
