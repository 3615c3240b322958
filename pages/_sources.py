"""Where the radiographs of a page come from: the drop zone, a folder, the simulated samples."""

from __future__ import annotations

import base64
import csv
import functools
import gc
import io
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import Literal

import streamlit as st
from PIL import Image

from core.settings import ROOT, ImageLimits
from core.system_files import of_the_system
from pages import _streamlit
from pages._theme import style

log = logging.getLogger(__name__)
SAMPLES = ROOT / "samples"
MOST_FILES = 200
MOST_SAMPLES = 12
MOST_PHOTOGRAPHS = 20
MOST_CARRIED = 500 * 2**20  # bytes of dropped files that a session keeps beside its drop zone
HELD = ("dropped", "carried", "photographed")  # the uploads of a session, by their keys
LET_GO = "let-go"  # in the session: a sentence, until the next drop
CAMERA = "Camera"
NUMBER = "photographs-taken"  # in the session: of the last one
CAMERA_WIDTH = 480  # pixels
SAMPLES_A_ROW = 6
THUMBNAIL_SIDE = 440  # pixels: twice what is seen of it
MOST_NAMED = 3  # of more files than these, the drop zone shows one line; the list has their names
ARCHIVE = ".zip"
DROP_ZONE = '.st-key-drop [data-testid="stFileUploaderDropzone"]'


@dataclass(frozen=True)
class Source:
    """A file that was given. id: unique in the session. read: its bytes. size: of them, where it
    was dropped.

    truth: of a simulated radiograph, what was simulated; empty for what a reader gave. camera:
    whether it was taken with the camera on the page.
    """

    id: str
    name: str
    read: Callable[[], bytes]
    truth: str = ""
    camera: bool = False
    size: int = 0


@dataclass(frozen=True)
class Sample:
    """One simulated radiograph of samples/manifest.csv. title: "Elbow, AP (right)"."""

    id: str
    part: str
    title: str
    truth: str
    path: Path

    @classmethod
    def of(cls, row: dict[str, str]) -> Sample:
        title, _, truth = row["title"].partition(": ")
        return cls(row["id"], row["part"], title, truth, SAMPLES / row["file"])

    @property
    def thumbnail(self) -> str:
        """A small JPEG file as a URL to show; of DICOM that of the copy beside it.

        With its bytes in it: an address of Streamlit's holds for one run of the page, and a slow
        browser that asks for it after the next one has begun finds nothing.
        """
        png = self.path.parent / "thumbs" / f"{self.path.stem}.png"
        small = _small(self.path if self.path.suffix == ".png" else png)
        return "data:image/jpeg;base64," + base64.b64encode(small).decode()

    @property
    def source(self) -> Source:
        truth = "; ".join(filter(None, (self.title, self.truth)))
        return Source(f"sample-{self.id}", self.path.name, self.path.read_bytes, truth)


@functools.cache
def _small(path: Path) -> bytes:
    """A picture of the project's own, small; Streamlit would encode the large one in every run.

    Not by the decode boundary: that imports more than the first page needs.
    """
    file = io.BytesIO()
    with Image.open(path, formats=["PNG"]) as picture:
        small = picture.convert("L")
        small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        small.save(file, "JPEG", quality=85)
    return file.getvalue()


def samples() -> list[Sample]:
    """The simulated radiographs that can be tried; none if the folder is empty or damaged."""
    try:
        with (SAMPLES / "manifest.csv").open(encoding="utf-8", newline="") as lines:
            rows = [Sample.of(row) for row in csv.DictReader(lines)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("samples/manifest.csv cannot be read.", exc_info=error)
        return []
    return _mixed([s for s in rows if s.path.is_file()])


def _mixed(rows: list[Sample]) -> list[Sample]:
    """The samples with their parts taking turns, so that a row shows what there is."""
    turns = [[s for s in rows if s.part == part] for part in dict.fromkeys(s.part for s in rows)]
    return [s for turn in zip_longest(*turns) for s in turn if s is not None]


def drop_zone(limits: ImageLimits) -> list[Source]:
    """Draw the drop zone; the files that lie in it, after those that lay in it before the reader
    looked at another page: Streamlit empties it then.

    Without what is no view: the system's own files and archives, see ``left_out``.
    """
    kind = st.session_state.get("kind", "Files")
    generation = st.session_state.setdefault("generation", 0)
    key = f"files-{kind.lower()}-{generation}"
    if key not in st.session_state:
        _carry()
    # the camera's picture is high: the choice stays above it
    beside: Literal["top", "center"] = "top" if kind == CAMERA else "center"
    with st.container(key="drop", horizontal=True, vertical_alignment=beside):
        if kind == CAMERA:
            _camera(generation)
            files = None
        else:
            files = st.file_uploader(
                "Radiographs",
                accept_multiple_files="directory" if kind == "Folder" else True,
                key=key,
                max_upload_size=max(1, limits.max_bytes // 2**20),
                label_visibility="collapsed",
                on_change=st.session_state.pop,
                args=(LET_GO, None),
            )
        st.segmented_control(
            "What to drop",
            ["Files", "Folder", CAMERA],
            default="Files",
            key="kind",
            required=True,
            label_visibility="collapsed",
            width="content",
        )
    dropped = [Source(f.file_id, f.name, f.getvalue, size=f.size) for f in files or []]
    st.session_state["dropped"] = dropped
    given = [*st.session_state.get("carried", ()), *dropped]
    return [source for source in given if _is_view(source)]


def left_out() -> tuple[int, int]:
    """How many of the files that were dropped are the system's own, and how many are archives."""
    given = st.session_state.get("dropped", ())
    own = sum(of_the_system(s.name) for s in given)
    return own, sum(_is_archive(s) and not of_the_system(s.name) for s in given)


def _is_archive(source: Source) -> bool:
    return source.name.lower().endswith(ARCHIVE)


def _is_view(source: Source) -> bool:
    return not of_the_system(source.name) and not _is_archive(source)


def _carry() -> None:
    """Keep the views that lay in a drop zone that is gone until all is cleared: the newest studies,
    where all are too much for one session; the last one however large, as it could be uploaded."""
    dropped = st.session_state.pop("dropped", ())
    _streamlit.give_back(source.id for source in dropped if not _is_view(source))
    carried = [*st.session_state.get("carried", ()), *filter(_is_view, dropped)]
    gone: list[Source] = []
    while sum(source.size for source in carried) > MOST_CARRIED:
        oldest = _oldest(carried)
        if len(oldest) in (0, len(carried)):
            break
        gone += oldest
        carried = [source for source in carried if source not in oldest]
    _streamlit.give_back(source.id for source in gone)
    if gone:
        st.session_state[LET_GO] = (
            f"{len(gone)} of the dropped files are no longer available: all together they were "
            f"larger than {MOST_CARRIED // 2**20} MB. Please drop them again."
        )
    st.session_state["carried"] = carried


def _oldest(sources: Sequence[Source]) -> list[Source]:
    """All views of the study that was dropped first: some of them alone would say something else
    than the whole. None where the page has grouped no files yet; those it has not are the newest.
    """
    from pages import _scoring  # imports torch, as what shows them does anyhow

    drops = _scoring.session().drops
    studies: dict[str, list[Source]] = {}
    for source in sources:
        if source.id in drops.of:
            studies.setdefault(drops.study_of(source), []).append(source)
    return max(studies.values(), key=lambda views: min(map(drops.age, views)), default=[])


def let_go() -> str:
    """What is not here any more since the last drop, and why; "" for nothing."""
    return str(st.session_state.get(LET_GO, ""))


def _camera(generation: int) -> None:
    """Photographs of a film or a screen, one after another; each stays until all is cleared."""
    key = f"camera-{generation}"

    def keep() -> None:
        photograph = st.session_state[key]
        if photograph is not None:
            # Numbers go up whatever is removed or cleared: of one name are the views of one
            # patient. With the time, as another session begins at 1, too.
            number = st.session_state.get(NUMBER, 0) + 1
            st.session_state[NUMBER] = number
            name = f"Photograph {number}, {datetime.now():%Y-%m-%d %H.%M.%S}.jpg"
            one = Source(photograph.file_id, name, photograph.getvalue, camera=True)
            kept = [*st.session_state.get("photographed", ()), one]
            st.session_state.pop(LET_GO, None)
            for old in kept[:-MOST_PHOTOGRAPHS]:
                _streamlit.give_back([old.id])
                st.session_state[LET_GO] = (
                    f"{old.name.removesuffix('.jpg')} is no longer available: the page keeps the "
                    f"last {MOST_PHOTOGRAPHS}."
                )
            st.session_state["photographed"] = kept[-MOST_PHOTOGRAPHS:]

    st.camera_input(
        "Photograph a film on a light box, or a screen",
        key=key,
        on_change=keep,
        width=CAMERA_WIDTH,
        help="Have all four edges of the film in the picture, and no reflections.",
    )


def photographed() -> list[Source]:
    """What was taken with the camera on the page."""
    return list(st.session_state.get("photographed", ()))


def shape_drop_zone(files: int) -> None:
    """Tall while it is alone on the page, one line of names where a summary has them too."""
    if files == 0:
        style(f"{DROP_ZONE} {{ min-height: 10rem; }}")
    elif files > MOST_NAMED:
        # One line of them, and first in it what adds more, which Streamlit puts after the last.
        style(
            '[data-testid="stFileChips"] { max-height: 2.6rem !important; } '
            '[data-testid="stFileChips"] > button { order: -1; }'
        )
    else:
        style(f"{DROP_ZONE} {{ min-height: 0; }}")


def tried() -> list[Source]:
    """The samples that the reader chose."""
    wanted = st.session_state.get("tried", [])
    return [s.source for s in samples() if s.id in wanted]


def try_sample(sample: str) -> None:
    """Put a sample beside the files."""
    st.session_state["tried"] = [*st.session_state.get("tried", ()), sample]


def remove(ids: Collection[str]) -> None:
    """Take files and samples from the page.

    The page cannot take a file out of its drop zone, so that one is emptied, and what else lay in
    it is kept beside the new one.
    """
    st.session_state["generation"] = st.session_state.get("generation", 0) + 1
    for key in HELD:
        held = st.session_state.get(key, ())
        _streamlit.give_back(s.id for s in held if s.id in ids)
        st.session_state[key] = [s for s in held if s.id not in ids]
    _carry()  # what is taken out needs no room there
    tried = {s.id: s.source.id for s in samples()}
    st.session_state["tried"] = [
        one for one in st.session_state.get("tried", ()) if tried.get(one) not in ids
    ]


def clear() -> None:
    """Forget every file, and what was read from them."""
    held = [st.session_state.get(key, ()) for key in HELD]
    _streamlit.give_back(source.id for some in held for source in some)
    st.session_state["generation"] = st.session_state.get("generation", 0) + 1
    if memory := st.session_state.pop("scoring", None):
        memory.give_up()  # what is awaited would be computed for nobody
    for key in (*HELD, "tried", LET_GO, "shown"):
        st.session_state.pop(key, None)
    gc.collect()  # what was read goes now, not when Python next looks for it
