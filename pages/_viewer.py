"""The viewer: one radiograph on a canvas. Window, zoom and heatmap are drawn in the browser.

The component lies in ``pages/viewer/`` as plain files. It gets every grey value of the file, up to
16 bit, and windows them itself: moving a slider asks nothing of the server. What goes to the
server are ``Event``s. They come as a numbered list that keeps the last ones: of two messages that
come while a script runs Streamlit keeps the newer one, and a reader presses keys faster than that.
"""

from __future__ import annotations

import functools
import json
import secrets
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from core import display
from core.explain import COLOUR_MAPS, colour_map, hottest, on_picture
from core.types import Heatmap, Radiograph

FOLDER = Path(__file__).with_name("viewer")
SCRIPTS = (
    "calls.js",
    "decode.js",
    "picture.js",
    "stage.js",
    "saved.js",
    "gestures.js",
    "viewer.js",
)
MOST_PIXELS = 4_000_000  # 8 MB before they are deflated
HEAT_SIDE = 384
NO_EVIDENCE = "No positive evidence, so there is no heatmap to show."


@dataclass(frozen=True)
class Prepared:
    """A radiograph made ready for screen and report.

    radiograph: as decoded, its pixels reduced to at most MOST_PIXELS. size: (height, width) of the
    file. deflated: the pixels for the browser. presets: (name, low, high), the first one to open
    with. shown: how that one was chosen.
    """

    radiograph: Radiograph
    size: tuple[int, int]
    deflated: bytes
    presets: tuple[tuple[str, float, float], ...]
    shown: str

    @property
    def key(self) -> str:
        """The same for the same pixels: of the file, the frame in it, and what was cut out."""
        one, header = self.radiograph, self.radiograph.header
        return f"{one.sha256} {header.frame if header else 1} {one.photograph}"

    @classmethod
    def of(cls, radiograph: Radiograph) -> Prepared:
        height, width = radiograph.pixels.shape
        side = round(max(height, width) * min(1.0, (MOST_PIXELS / (height * width)) ** 0.5))
        pixels = display.reduced(radiograph.pixels, side)
        little_endian = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
        low, high, how = display.window(pixels)
        return cls(
            replace(radiograph, pixels=pixels),
            (height, width),
            zlib.compress(little_endian.tobytes(), level=1),
            (("As opened", low, high), *_presets(pixels)),
            how,
        )


@dataclass(frozen=True)
class Event:
    """What the reader did that the server must know.

    view: the SHA-256 of the radiograph it happened on. about: what the viewer had been told that
    it shows. step: -1 or 1, to the previous or next. mark: "x0 y0 x1 y1" in fractions. decision: 1,
    2 or 3. Only one of the last three is set.
    """

    view: str
    about: str = ""
    step: int = 0
    mark: str = ""
    decision: int = 0


def viewer(
    prepared: Prepared,
    heatmap: Heatmap | None,
    *,
    key: str,
    alt: str,
    on_event: Callable[[Event], None],
    marks: bool = False,
    mark: str = "",
    others: Sequence[tuple[str, tuple[float, float, float, float]]] = (),
    digits: str = "",
    caption: tuple[str, ...] = (),
    about: str = "",
) -> None:
    """Draw the viewer; on_event is called before the page runs again.

    alt: the picture in words, for those who do not see it. marks: whether a rectangle can be
    drawn. mark: the one that is there. others: marks of other readers, each a name and a box
    (x0, y0, x1, y1), all in fractions. digits: what the keys 1 to 3 decide, in words; empty where
    they decide nothing. caption: lines below a picture that is saved. about: comes back with each
    event, as one picture may be in two studies. A key keeps its place on the
    page; zoom and window are kept for each radiograph, opacity and overlay for all.
    """
    options = {"alt": alt, "marks": marks, "digits": digits, "caption": caption, "about": about}
    options |= {"others": [{"label": name, "box": list(box)} for name, box in others]}
    options |= {"mark": [float(x) for x in mark.split()] or None}
    _draw(key, on_event, lambda session: _message(prepared, heatmap, options | session))


def keys(*, key: str, on_event: Callable[[Event], None]) -> None:
    """In the place of a picture that could not be read: the keys for previous and next, unseen.

    Without them a reader who came by these keys would be stuck there.
    """
    header = {"id": "", "key": "", "about": ""}
    _draw(key, on_event, lambda session: framed(header | session, []))


def _draw(
    key: str, on_event: Callable[[Event], None], message: Callable[[dict[str, str]], bytes]
) -> None:
    """The component, which is told its session; its events are handed on, each once."""
    inbox: Inbox = st.session_state.setdefault(f"{key}-inbox", Inbox())

    def tell() -> None:
        inbox.take(st.session_state[key].get("events"), on_event)

    if inbox.take(st.session_state.get(key, {}).get("events"), on_event):
        st.rerun()  # they came while another run was cut short, so that nobody was told
    _component()(key=key, data=message({"session": inbox.session}), on_events_change=tell)


@dataclass
class Inbox:
    """What one session has taken of the events of one viewer, so that each is taken once.

    session: told to the browser and sent back with each event; those of another session, which a
    browser sends again when the server was started anew, are none of ours. last: the number of the
    newest event that was taken.
    """

    session: str = field(default_factory=lambda: secrets.token_hex(8))
    last: int = 0

    def take(self, sent: Any, on_event: Callable[[Event], None]) -> int:
        """Hand on the events that are new, in their order; how many there were.

        An event counts as taken when it was handled: where Streamlit cuts a run short in the
        middle of it, the next run takes it again.
        """
        new = [e for e in sent if self._is_new(e)] if isinstance(sent, list) else []
        for one in sorted(new, key=lambda e: int(e["number"])):
            event = _event(one)
            if event is not None:
                on_event(event)
            self.last = one["number"]
        return len(new)

    def _is_new(self, sent: Any) -> bool:
        if not isinstance(sent, dict) or sent.get("session") != self.session:
            return False
        number = sent.get("number")
        return isinstance(number, int) and number > self.last


@functools.cache
def _component() -> Any:
    parts = [(FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS]
    return st.components.v2.component(
        "viewer",
        html=(FOLDER / "viewer.html").read_text(encoding="utf-8"),
        css=(FOLDER / "viewer.css").read_text(encoding="utf-8"),
        js="\n".join(parts),
    )


def _event(value: Any) -> Event | None:
    """What the browser sent; None for what is no event, because a browser can send anything."""
    if not isinstance(value, dict):
        return None
    view, kind = str(value.get("view", "")), value.get("kind")
    about = str(value.get("about", ""))
    if kind == "go" and value.get("step") in (-1, 1):
        return Event(view, about, step=int(value["step"]))
    if kind == "decision" and value.get("value") in (1, 2, 3):
        return Event(view, about, decision=int(value["value"]))
    if kind == "mark" and _is_box(value.get("mark")):
        return Event(view, about, mark=value["mark"])
    return None


def _is_box(text: Any) -> bool:
    try:
        x0, y0, x1, y1 = (float(x) for x in text.split())
    except (AttributeError, ValueError):
        return False
    return 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1


def _message(prepared: Prepared, heatmap: Heatmap | None, options: dict[str, Any]) -> bytes:
    """What the viewer is told, as ``framed`` puts it."""
    pixels = prepared.radiograph.pixels
    height, width = pixels.shape
    heat, region, note = _heat(prepared, heatmap)
    colours = b"".join(colour_map(name).tobytes() for name in COLOUR_MAPS)
    blobs = [prepared.deflated, b"" if heat is None else heat.tobytes(), colours]
    header = options | {
        "id": prepared.radiograph.sha256,
        "key": prepared.key,
        "width": width,
        "height": height,
        "bits": 8 * pixels.dtype.itemsize,
        "presets": [{"name": n, "low": low, "high": high} for n, low, high in prepared.presets],
        "heat": heat is not None and {"width": heat.shape[1], "height": heat.shape[0]},
        "method": heatmap.method if heatmap else "",
        "colours": list(COLOUR_MAPS),
        "region": region,
        "note": note,
    }
    return framed(header, blobs)


def framed(header: dict[str, Any], blobs: Sequence[bytes]) -> bytes:
    """Length of the header, header with the blobs' lengths, blobs: ``pages/viewer/decode.js``."""
    head = json.dumps(header | {"blobs": [len(blob) for blob in blobs]}).encode()
    return b"".join([len(head).to_bytes(4, "little"), head, *blobs])


def _heat(
    prepared: Prepared, heatmap: Heatmap | None
) -> tuple[np.ndarray | None, dict[str, Any] | None, str]:
    """(hxw uint8 over the picture, outline of the hottest region, note)."""
    if heatmap is None:
        return None, None, ""
    if not heatmap.has_evidence:
        return None, None, NO_EVIDENCE
    scale = HEAT_SIDE / max(prepared.size)
    height, width = (max(1, round(n * scale)) for n in prepared.size)
    heat = on_picture(heatmap, height, width)
    found = hottest(heat)
    region = None
    if found is not None:
        region = {
            "outline": np.round(found.outline, 4).tolist(),
            "label": region_size(prepared, found.width, found.height),
        }
    return np.rint(heat * 255).astype(np.uint8), region, ""


def region_size(prepared: Prepared, width: float, height: float) -> str:
    """A box given in fractions as "32 × 18 mm"; empty where the file has no pixel spacing."""
    spacing = prepared.radiograph.pixel_spacing
    if spacing is None:
        return ""
    rows, columns = prepared.size
    return f"{width * columns * spacing[1]:.0f} × {height * rows * spacing[0]:.0f} mm"


def _presets(pixels: np.ndarray) -> tuple[tuple[str, float, float], ...]:
    """Windows by the grey values of this picture: a radiograph has no scale that all share."""
    inside = pixels[::4, ::4]
    whole = float(pixels.min()), float(pixels.max())
    ranges = {
        "Bone": np.percentile(inside, (50, 99.9)),
        "Soft tissue": np.percentile(inside, (5, 80)),
        "Full range": whole,
    }
    return tuple((n, float(low), max(float(high), low + 1.0)) for n, (low, high) in ranges.items())
