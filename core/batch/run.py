"""One run: inputs, journal, table, and what the user asked for beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from core.batch import summary, tables
from core.batch.cluster import RayScorer
from core.batch.inputs import Source, absolute, source_at, without_password
from core.batch.journal import Journal, Record, disk
from core.batch.progress import Meter
from core.batch.scoring import Scorer
from core.errors import BatchFailed
from core.files import write_atomically


@dataclass(frozen=True)
class Order:
    """What the user wants. by: image or study. summary: an HTML file, or None.

    roots: the folders that nothing may be read outside of, None where the user may read anything.
    """

    source: str | Path
    out: Path
    by: str = "image"
    resume: bool = False
    summary: Path | None = None
    roots: Sequence[Path] | None = None


@dataclass(frozen=True)
class Outcome:
    """How a run ended. stopped: it was asked to stop, and goes on with --resume.

    already: the table was complete before, so nothing was done and nothing counted.
    """

    done: int
    total: int
    rejected: int
    stopped: bool
    already: bool = False


def run(order: Order, scorer: Scorer | RayScorer, stop: threading.Event, stream: TextIO) -> Outcome:
    """Score everything and put the table in its place; raises BatchFailed.

    stop: set by somebody who wants the run to end after the batch that is being scored.
    """
    tables.check_format(order.out)
    source = source_at(order.source, order.roots)
    with source.opened(), Journal(order.out) as journal:
        if order.resume and not journal.unfinished and order.out.exists():
            journal.remove()  # the folder that asking has made
            return Outcome(0, 0, 0, stopped=False, already=True)
        _begin(journal, order, scorer, source)
        before = sum(r["status"] == "rejected" for r in journal.records())
        meter = Meter(journal.total, journal.done, stream, before)
        try:
            _score(journal, source, scorer, stop, meter)
        finally:
            meter.close()
        if journal.done < journal.total:
            return Outcome(journal.done, journal.total, meter.rejected, True)
        _finish(journal, order, scorer, source)
        return Outcome(journal.done, journal.total, meter.rejected, False)


def _begin(journal: Journal, order: Order, scorer: Scorer | RayScorer, source: Source) -> None:
    facts: Record = {
        "source": without_password(absolute(order.source)),
        "release": scorer.release.id,
        "release_sha256": scorer.release.sha256,
        "engine": scorer.engine,
        "list_of_members": source.version(),
        "folder_of_heatmaps": absolute(scorer.heatmaps) if scorer.heatmaps else None,
    }
    if order.resume and journal.unfinished:
        journal.resume(facts)
    elif journal.unfinished:
        raise BatchFailed(
            "A run into this output was interrupted. Continue it with --resume, or remove "
            f"{journal.folder} to start over."
        )
    else:
        own = [order.out, journal.folder, order.summary, scorer.heatmaps]
        facts["engine_setting"] = scorer.engine_setting  # by which somebody else goes on
        journal.begin(facts, _without(source, [p for p in own if p is not None]))


def _without(source: Source, own: Sequence[Path]) -> Iterator[str]:
    """The names of the source but for what this run writes into it, or an earlier one wrote."""
    skipped = tuple(name for name in map(source.below, own) if name and name != ".")
    for name in source.names():
        if not any(name == one or name.startswith(f"{one}/") for one in skipped):
            yield name


def _score(
    journal: Journal,
    source: Source,
    scorer: Scorer | RayScorer,
    stop: threading.Event,
    meter: Meter,
) -> None:
    records = scorer.records(source, journal.remaining(), journal)
    try:
        for batch in records:
            journal.append(batch)
            meter.add(len(batch), sum(r["status"] == "rejected" for r in batch))
            if stop.is_set():
                return
    finally:
        records.close()  # type: ignore[attr-defined]


def _finish(journal: Journal, order: Order, scorer: Scorer | RayScorer, source: Source) -> None:
    """Table and summary, each written whole and renamed; then the journal goes."""
    release, kind = scorer.release, order.out.suffix.lower()
    rows: Iterator[Record]
    if order.by == "study":
        rows, columns = tables.study_rows(journal.records(), release), tables.STUDY_COLUMNS
    else:
        form: Callable[[Record], Record] = tables.public if kind == ".jsonl" else tables.image_row
        rows, columns = map(form, journal.records()), tables.IMAGE_COLUMNS
    with disk():
        if order.summary is not None:
            summary.write(order.summary, journal, release, source, scorer.limits)
        write_atomically(order.out, lambda path: tables.write(path, kind, rows, columns))
    journal.remove()
