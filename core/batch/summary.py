"""One HTML page about a run: counts, probabilities, thumbnails of the suspected. Works offline."""

from __future__ import annotations

import base64
import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from core import film, imaging
from core.batch.inputs import Source
from core.batch.journal import Journal, Record
from core.batch.tables import result_of
from core.display import encoded, to_8_bit
from core.errors import ImageRejected
from core.files import write_atomically
from core.manifest import Release
from core.notes import notes_of, probability_of
from core.settings import ImageLimits
from core.types import Finding

SHOWN = 60  # thumbnails of the most suspected
SIDE = 200
BINS = 20
_STYLE = """
body{background:#0b0d0f;color:#d9dee2;font:15px/1.45 system-ui,sans-serif;margin:2rem auto;
max-width:1100px;padding:0 1rem;font-variant-numeric:tabular-nums}
h1{font-size:1.35rem}h2{font-size:1.05rem;margin-top:2rem}.soft,figcaption{color:#98a3ac}
table{border-collapse:collapse}td,th{text-align:left;padding:.25rem 1.2rem .25rem 0;
border-bottom:1px solid #262c31;font-weight:400}td{text-align:right}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(200px,1fr));gap:1rem}
figure{margin:0}figure div{height:200px;background:#000;display:grid;place-content:center}
figcaption{font-size:.82rem;overflow-wrap:anywhere}figcaption b{color:#f0b357;font-weight:600}
"""


@dataclass
class _Tally:
    """What one pass over the records finds out; its memory does not grow with them."""

    findings: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    bins: Counter[int] = field(default_factory=Counter)
    top: list[tuple[float, int, str, Record]] = field(default_factory=list)
    total: int = 0

    def add(self, position: int, name: str, record: Record) -> None:
        self.total += 1
        if record["status"] == "rejected":
            self.reasons[record["reason"]] += 1
            return
        probability, finding = record["fracture"]["probability"], record["fracture"]["finding"]
        self.findings[record["body_part"]["label"], finding] += 1
        self.bins[min(BINS - 1, int(probability * BINS))] += 1
        if finding == "suspected":
            heapq.heappush(self.top, (probability, -position, name, record))
            if len(self.top) > SHOWN:
                heapq.heappop(self.top)


def write(
    path: Path, journal: Journal, release: Release, source: Source, limits: ImageLimits
) -> None:
    """The page for all records of a journal, written whole and renamed."""
    tally = _Tally()
    for position, (name, record) in enumerate(journal.pairs()):
        tally.add(position, name, record)
    page = "".join(_page(tally, release, source, limits))
    write_atomically(path, lambda p: p.write_text(page, encoding="utf-8"))


def _page(tally: _Tally, release: Release, source: Source, limits: ImageLimits) -> Iterator[str]:
    yield "<!doctype html><html lang='en'><meta charset='utf-8'><title>Batch summary</title>"
    yield f"<style>{_STYLE}</style><h1>{tally.total} files</h1>"
    yield f"<p class='soft'>Release {escape(release.id)}. Research use only, not a medical device."
    yield " A finding is suspected, doubtful or not suspected by the release's operating points."
    yield f"</p><h2>Findings</h2>{_findings(tally)}<h2>Probabilities</h2>{_histogram(tally)}"
    if tally.top:
        yield f"<h2>Most suspicious ({len(tally.top)})</h2><div class='grid'>"
        for probability, _, name, record in sorted(tally.top, key=lambda t: (-t[0], -t[1])):
            small = _thumbnail(source, name, record, limits)
            yield _figure(probability, record, release, small)
        yield "</div>"
    if tally.reasons:
        yield f"<h2>Not assessed ({tally.reasons.total()})</h2><table>"
        for reason, count in tally.reasons.most_common():
            yield f"<tr><th>{escape(reason)}<td>{count}"
        yield "</table>"


def _findings(tally: _Tally) -> str:
    parts = sorted({part for part, _ in tally.findings})
    head = "".join(f"<td>{finding.words.capitalize()}" for finding in reversed(Finding))
    rows = (
        f"<tr><th>{escape(part.capitalize())}"
        + "".join(f"<td>{tally.findings[part, finding]}" for finding in reversed(Finding))
        for part in parts
    )
    return f"<table><tr><th>Body part{head}{''.join(rows)}</table>"


def _histogram(tally: _Tally) -> str:
    """Bars of the probability, 0 to 100 %, as a drawing without a script."""
    highest = max(tally.bins.values(), default=1)
    bars = "".join(
        f"<rect x='{30 * n + 2}' width='26' y='{100 - 100 * tally.bins[n] / highest:.1f}' "
        f"height='{100 * tally.bins[n] / highest:.1f}'><title>{tally.bins[n]}</title></rect>"
        for n in range(BINS)
    )
    return (
        f"<svg viewBox='0 0 {30 * BINS} 118' width='100%' fill='#6f8192'>{bars}"
        f"<g fill='#98a3ac' font-size='11'><text y='114'>0</text>"
        f"<text y='114' x='{30 * BINS}' text-anchor='end'>100 %</text></g></svg>"
    )


def _figure(probability: float, record: Record, release: Release, thumbnail: str) -> str:
    picture = (
        f"<img alt='' src='data:image/jpeg;base64,{thumbnail}'>"
        if thumbnail
        else "Not readable now"
    )
    result, by = result_of(record), release.with_digest(record["release_sha256"])
    told = "".join(f"<br>{escape(said)}" for said in notes_of(result, by))
    share = escape(probability_of(probability, by, result.part))
    return (
        f"<figure><div>{picture}</div><figcaption><b>Suspected, {share}</b>, "
        f"{escape(record['body_part']['label'])}<br>{escape(record['file'])}{told}</figcaption>"
        "</figure>"
    )


def _thumbnail(source: Source, name: str, record: Record, limits: ImageLimits) -> str:
    """The picture again, small, as base64 of a JPEG; empty if the file has gone or changed."""
    try:
        data = source.read(name, limits)
        if imaging.sha256(data) != record["sha256"]:
            return ""
        return base64.b64encode(thumbnail(data, record, SIDE, limits)).decode()
    except ImageRejected:
        return ""


def thumbnail(data: bytes, record: Record, side: int, limits: ImageLimits) -> bytes:
    """What was assessed of a file, as a JPEG of at most ``side`` pixels a side.

    data: the file that ``record`` is of. Raises ImageRejected where it cannot be read.
    """
    decoded = imaging.decode(data, record["file"], limits, digest=record["sha256"])
    seen = film.as_seen(decoded, film.way_of(result_of(record).photograph))
    return encoded(to_8_bit(seen.pixels, side))
