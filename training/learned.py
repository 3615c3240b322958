"""What a release has learned from, against the radiographs that it is measured on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from training import candidate_folder, provenance, terms
from training.data import DataInvalid
from training.duplicates import ROWS, names_taught, names_trained

log = logging.getLogger(__name__)


def tell(
    weights: Path,
    held: pd.DataFrame,
    split: str,
    training_data: Mapping[str, Any],
    cross_fitted: bool = False,
) -> dict[str, Any]:
    """Warn where what is measured on is what was learned from or chosen on, or nothing tells
    whether it is.

    weights: the folder of the release; a candidate's lies in that of its run. held: the rows that
    are measured on. training_data: the release's. cross_fitted: whether validation taught a network
    that is measured (``Release.cross_fitted``). Returns what the figures' record says of it, for
    ``measured.caution``: ``learned`` and of validation ``chosen`` (how many of the pictures), and
    ``untold`` (sources), each where there are any.
    """
    said: dict[str, Any] = {}
    run = weights.parent
    count = chosen = taught(run, held)
    if split == "val":
        count = trained_on(run, held)
        if cross_fitted:
            count = int(held.source.astype(str).isin(terms.sources(training_data)).sum())
        if chosen > count:
            said["chosen"] = chosen - count
            log.info("%d of these pictures chose networks and thresholds", chosen - count)
    if count:
        said["learned"] = count
        log.warning("%d of these pictures are among those that the run has learned from", count)
    if missing := untold(run, held, training_data):
        said["untold"] = missing
        log.warning(
            "The release learned from pictures of %s, and without the %s of all runs behind it "
            "nothing tells whether from these.", ", ".join(missing), ROWS,
        )  # fmt: skip
    return said


def taught(run: Path, rows: pd.DataFrame) -> int:
    """How many of the rows a run, or one that it began with, has learned from or chosen on, by
    their lists."""
    lists, _ = behind(run)
    seen = {name for listed in lists for name in names_taught(listed)}
    return sum(name in seen for name in zip(rows.source.astype(str), rows.id.astype(str)))


def trained_on(run: Path, rows: pd.DataFrame, finding: bool = False) -> int:
    """How many of the rows a run, or one that it began with, was trained on by their lists; with
    ``finding`` those that taught it a finding."""
    lists, _ = behind(run)
    told: dict[tuple[str, str], bool] = {}
    for listed in lists:
        for name, labelled in names_trained(listed).items():
            told[name] = told.get(name, False) or labelled
    names = zip(rows.source.astype(str), rows.id.astype(str))
    return sum(told.get(name, False) if finding else name in told for name in names)


def refuse_taught(run: Path, val: pd.DataFrame) -> None:
    """Raise DataInvalid where rows that are to choose thresholds for a run taught it, or what it
    began with."""
    if count := trained_on(run, val):
        raise DataInvalid(
            f"{count} pictures of validation taught {run}, or what it began with: they can choose "
            "no thresholds for it. Train from another start, or with the split of that run."
        )


def thresholds_note(run: Path, val: pd.DataFrame, training_data: Mapping[str, Any]) -> str:
    """What a reader of the card must know of thresholds that these rows choose: a sentence where
    nothing tells whether they taught what the run began with, else empty."""
    sources = untold(run, val, training_data)
    if not sources:
        return ""
    has = "may have" if behind(run)[1] is None else "has"
    said = (
        f"What it began with {has} learned from pictures of {', '.join(sources)}, and nothing "
        "tells whether from some of those that chose its thresholds: what these promise may be too "
        "much."
    )
    log.warning(said)
    return said


def untold(run: Path, held: pd.DataFrame, training_data: Mapping[str, Any]) -> list[str]:
    """The sources of the rows that were learned from where nothing tells from which pictures.

    A release brings no list of its pictures, so neither does a run that began with one.
    """
    _, unlisted = behind(run)
    known = terms.sources(training_data) if unlisted is None else unlisted
    return sorted({*held.source.astype(str)} & known)


def releases_behind(run: Path) -> set[str]:
    """The ids of the installed releases that a run, or one behind it, began with."""
    from training import initial

    found: set[str] = set()
    left, looked = [run], set()
    while left:
        folder = left.pop()
        if folder.resolve() in looked or (record := provenance.record(folder)) is None:
            continue
        looked.add(folder.resolve())
        named = [*record[1].get("releases", ())]
        if known := initial.base(folder):
            named.append(known["id"])
        found |= {name for name in named if name in initial.installed().releases}
        left += provenance.runs_before(folder, record[1])[0]
    return found


def behind(run: Path) -> tuple[set[Path], set[str] | None]:
    """The lists (ROWS) of a run and of all that it began with or learned from, and the sources of
    what has no list; None where it is not known what all of that is."""
    lists: set[Path] = set()
    unlisted: set[str] = set()
    known, left, looked = True, [run], set()
    while left:
        folder = left.pop()
        if folder.resolve() in looked:
            continue
        looked.add(folder.resolve())
        candidate_folder.of(folder)  # where its list and record may still lie
        listed = (folder / ROWS).exists()
        if listed:
            lists.add(folder / ROWS)
        record = provenance.record(folder)
        if record is None:
            # Weights from elsewhere, such as ImageNet's, are no run; a list shows that it was one.
            known = known and folder != run and not listed
            continue
        config, asked = record[1], [provenance.released]
        if not listed and "runs" not in config:  # a mean has no pictures of its own
            asked.append(provenance.own_sources)
        for ask in asked:
            try:
                unlisted |= ask(folder, config)
            except (OSError, DataInvalid):  # what else is behind it has its lists all the same
                known = False
        before, whole = provenance.runs_before(folder, config)
        left += before
        known = known and whole
    return lists, unlisted if known else None
