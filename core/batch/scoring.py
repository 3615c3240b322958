"""Names to records: read, hash, decode in threads, and score in batches, in the order given."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from core import film, imaging
from core.batch.flow import ahead, chunks, prefetched
from core.batch.inputs import Source
from core.batch.journal import KEPT, Record, disk
from core.display import to_8_bit
from core.errors import BatchFailed, ImageRejected
from core.explain import on_picture, overlay
from core.files import write_atomically
from core.manifest import Release
from core.settings import ImageLimits
from core.transforms import Canvas, framed
from core.types import WHOLE, Assessment, Crop, DicomHeader, ImageResult, Radiograph

if TYPE_CHECKING:
    from core.cascade import Cascade

log = logging.getLogger(__name__)

A = TypeVar("A")

BATCH = 64
READERS = 4  # they wait for the disk, so there may be more of them than cores
HEATMAP_SIDE = 768
HEATMAP_OPACITY = 0.5
UNEXPECTED = "The file could not be read; the log says why."


@dataclass(frozen=True)
class _Item:
    """A file on its way. Of data, reason and canvas there is one at a time.

    name: of its source. file: what it is called in the table.
    twin: equal bytes came before it, so it is neither decoded nor scored.
    picture: HxW uint8, at most HEATMAP_SIDE, where heatmaps are wanted. radiograph: without its
    pixels.
    seconds: by the clock, of reading and decoding this file, and of its share of the networks.
    """

    name: str
    file: str
    sha256: str | None = None
    data: bytes = b""
    reason: str | None = None
    twin: bool = False
    canvas: Canvas | None = None
    crop: Crop = WHOLE
    picture: NDArray[np.uint8] | None = None
    header: DicomHeader | None = None
    seconds: float = 0.0
    radiograph: Radiograph | None = None


class Known(Protocol):
    """What has been scored already, by digest; a journal is one."""

    def has(self, sha256: str) -> bool:
        """Whether these bytes have a record."""

    def find(self, sha256: str) -> Record:
        """Their record."""


class Nothing:
    """No bytes are known from before."""

    def has(self, _: str) -> bool:
        return False

    def find(self, sha256: str) -> Record:
        raise KeyError(sha256)


@dataclass(frozen=True)
class Scorer:
    """How files are read and scored.

    batch: how many are scored together; it changes the speed and not the results.
    threads: how many decode. heatmaps: folder for a PNG of each assessed radiograph, or None.
    """

    cascade: Cascade
    limits: ImageLimits
    batch: int = BATCH
    threads: int = os.cpu_count() or 1
    heatmaps: Path | None = None

    @property
    def release(self) -> Release:
        return self.cascade.release

    @property
    def engine(self) -> str:
        return self.cascade.engine.description

    @property
    def engine_setting(self) -> str:
        return self.cascade.engine.setting

    def records(self, source: Source, names: Iterable[str], known: Known) -> Iterator[list[Record]]:
        """Records in the order of ``names``, a batch at a time; each is to be appended at once.

        Raises BatchFailed where the source itself can no longer be read.
        """
        with (
            ThreadPoolExecutor(READERS, "read") as readers,
            ThreadPoolExecutor(self.threads, "decode") as decoders,
        ):
            read = ahead(readers, partial(_timed, partial(self._read, source)), names, 2 * READERS)
            once = self._marked(read, known)
            decoded = ahead(decoders, partial(_timed, self._decode), once, 2 * self.threads)
            ready = prefetched(decoded, self.batch)
            try:
                for chunk in chunks(ready, self.batch):
                    yield self._score(self._settled(source, chunk, readers), known)
            finally:
                ready.close()  # type: ignore[attr-defined]

    def _read(self, source: Source, name: str) -> _Item:
        file = name
        try:
            file = source.label(name)
            data = source.read(name, self.limits)
        except ImageRejected as error:
            return _Item(name, file, reason=error.reason)
        except Exception:  # the boundary of one file: the others go on
            log.exception("A file could not be read.")
            return _Item(name, file, reason=UNEXPECTED)
        return _Item(name, file, hashlib.sha256(data).hexdigest(), data)

    def _settled(
        self, source: Source, items: Sequence[_Item], readers: ThreadPoolExecutor
    ) -> list[_Item]:
        """The items, those again that could not be read; raises BatchFailed if all of the source
        has gone.

        Once a batch and after its files were read: a row is for good, so it must not say of a file
        what is true of the file server, which may have been away for a moment.
        """
        unread = [item.name for item in items if item.sha256 is None]
        if unread and not source.there():
            raise BatchFailed(f"The folder or archive can no longer be read. {KEPT}")
        again = ahead(readers, partial(_timed, partial(self._read, source)), unread, READERS)
        return [_timed(self._decode, next(again)) if i.sha256 is None else i for i in items]

    def _marked(self, items: Iterable[_Item], known: Known) -> Iterator[_Item]:
        """Equal bytes after the first are marked as a twin and carried without them."""
        flying: dict[str, None] = {}
        for item in items:
            if item.sha256 is None:
                yield item
            elif item.sha256 in flying or known.has(item.sha256):
                yield replace(item, data=b"", twin=True)
            else:
                flying[item.sha256] = None
                if len(flying) > 4 * self.batch + 8 * self.threads:  # more are never on their way
                    del flying[next(iter(flying))]
                yield item

    def _decode(self, item: _Item) -> _Item:
        if item.twin or item.reason is not None:
            return item
        try:
            digest = item.sha256 or ""
            radiograph = imaging.decode(item.data, item.file, self.limits, digest=digest)
            radiograph = film.as_seen(radiograph)
            canvas, crop = framed(radiograph.pixels, self.cascade.release.preprocessing)
            picture = None if self.heatmaps is None else to_8_bit(radiograph.pixels, HEATMAP_SIDE)
        except ImageRejected as error:  # a view of its study all the same
            header = imaging.peek(item.data, self.limits)
            return replace(item, data=b"", reason=error.reason, header=header)
        except Exception:  # the boundary of one file: the others go on
            log.exception("A file could not be decoded.")
            return replace(item, data=b"", reason=UNEXPECTED)
        return replace(
            item,
            data=b"",
            canvas=canvas,
            crop=crop,
            picture=picture,
            header=radiograph.header,
            radiograph=replace(radiograph, pixels=radiograph.pixels[:0, :0].copy()),
        )

    def _score(self, items: Sequence[_Item], known: Known) -> list[Record]:
        canvases = [i.canvas for i in items if i.canvas is not None]
        started = time.perf_counter()
        found = iter(self.cascade.assess(canvases))
        share = (time.perf_counter() - started) / max(1, len(canvases))
        here: dict[str, Record] = {}
        records = []
        for item in items:
            if item.twin and item.sha256 is not None:
                first = here.get(item.sha256) or known.find(item.sha256)
                spent = round(1000 * item.seconds, 1)
                record = first | {"file": item.file, "milliseconds": spent}
            elif item.canvas is None:
                record = self._record(item, None)
            else:
                timed = replace(item, seconds=item.seconds + share)
                record = self._record(timed, next(found).on(item.crop))
            if item.sha256 is not None:
                here.setdefault(item.sha256, record)
            records.append(record)
        return records

    def _record(self, item: _Item, assessment: Assessment | None) -> Record:
        """The public record, and the study and patient that the file names."""
        release, spent = self.cascade.release, 1000 * item.seconds
        if assessment is None or item.radiograph is None:
            result = ImageResult(
                item.file, item.sha256, item.reason, release.id, release.sha256, spent
            )
        else:
            result = self.cascade.result(item.radiograph, assessment, spent)
        if self.heatmaps is not None and result.heatmap is not None and item.picture is not None:
            path = self.heatmaps / f"{(item.sha256 or '')[:16]}.png"
            heat = on_picture(result.heatmap, *item.picture.shape)
            _write_png(path, overlay(item.picture, heat, HEATMAP_OPACITY))
        header = item.header or DicomHeader()
        return result.to_json() | {
            "study_uid": header.study_uid or None,
            "patient": header.patient or None,
        }


def _timed(step: Callable[[A], _Item], given: A) -> _Item:
    """The item that a step makes, with the time it took added to what the item has taken before."""
    started = time.perf_counter()
    item = step(given)
    return replace(item, seconds=item.seconds + time.perf_counter() - started)


def _write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """HxWx3 uint8 RGB; the name is the digest's, so equal radiographs share a heatmap."""
    data = cv2.imencode(".png", picture[..., ::-1])[1]
    with disk():
        write_atomically(path, lambda p: p.write_bytes(data.tobytes()))
