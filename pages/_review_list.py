"""The worklist on the page Review: filters, the list, figures of agreement, what to take away."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from html import escape
from typing import TYPE_CHECKING, TypeVar

import streamlit as st

from core.access import Role
from core.agreement import Agreement, Figure, between_readers, of_release, with_readers
from core.errors import CascadeError
from core.manifest import Release
from core.store import (
    TELLING,
    Entry,
    Query,
    Status,
    Store,
    StudyRecord,
    Verdict,
    has_decided,
)
from core.store.export import kept_from, to_csv, to_manifest
from core.types import BodyPart
from pages import _access, _cascade, _kept, _mode, _reading, _worklist
from pages._rows import Column, Row, finding, rows
from pages._theme import html, notice

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

K = TypeVar("K")
STUDY = "study"  # in the page's address
GOING = "review-going"  # the study to be opened, until the browser has it in its address
ORDER = "review-order"  # ids of the studies as they were listed last
LAST = "review-last"  # the study that was open last: where the list is taken up again
ROWS_SHOWN = 15
COLUMNS = (
    Column("Finding", "finding", 9),
    Column("Probability", "share", 9),
    Column("Body part", width=6),
    Column("Study"),
    Column("Views", "number", 4),
    Column("Status", width=10.5),
    Column("Readers", width=8),
    Column("Added (UTC)", width=9.5, aside=True),
)
STATUS = {
    Status.NEW: "New",
    Status.AGREED: "Agreed",
    Status.DISAGREED: "Disagreed",
    Status.SECOND_LOOK: "Needs a second look",
}
READ_BY_OTHERS = "Read by others"  # what they say is for nobody who has still to decide
READ = "Read"  # to nobody by name, who may be the one who read it
VERDICTS = {
    Verdict.DRAFT: "Not decided yet",
    Verdict.AGREE: "Agrees",
    Verdict.DISAGREE: "Disagrees",
    Verdict.SECOND_LOOK: "Asks for a second look",
}
SUPERSEDED = " · superseded"
EMPTY = (
    "Nothing is on the worklist yet. Open a study on the page Diagnose and choose Add to worklist."
)
WHAT_THEY_ARE = (
    "By study, with the readers as the reference: agreement on this worklist, not the accuracy of "
    "the release. Superseded studies are left out. Intervals are 95 %. At “sensitive”, doubtful "
    "counts as positive; at “specific”, as negative."
)


def draw(store: Store) -> None:
    """Who reads, filters, the list, and below it what can be taken away."""
    with st.container(width=320):
        if _worklist.reader():
            _worklist.reading_as()
        else:
            _worklist.ask_reader("reader-own")
    wanted = _filters()
    entries = store.worklist(wanted)
    st.session_state[ORDER] = [e.id for e in entries]
    if not entries and wanted == Query(asked_by=wanted.asked_by):
        html(f"<p class='lead'>{EMPTY}</p>")
        return
    with st.container(key="status", horizontal=True, vertical_alignment="center"):
        noun = "study" if len(entries) == 1 else "studies"
        html(f"<p class='tally'><b>{len(entries)}</b> {noun}</p>")
        st.button(
            "Start reading",
            key="start",
            on_click=open_study,
            args=(entries[0].id if entries else "",),
            disabled=not entries,
            type="primary",
        )
    _table(entries)
    _take_away(store, wanted, entries)
    if st.toggle("Figures of agreement", key="agreement"):
        _agreement(store, _asks(Role.ADMIN))


def open_study(study: str) -> None:
    """Go to a study, or with "" back to the list."""
    st.session_state[GOING] = study
    if study:
        st.session_state[LAST] = study
    _address(study)


def close_study() -> None:
    open_study("")


def current() -> str:
    """The study that is open, "" where it is the list.

    A browser sends its address with whatever it sends, and until it has heard of a step that is the
    address before. So the step counts until a page was drawn to its end (``arrived``).
    """
    going = st.session_state.get(GOING)
    if going is None:
        return str(st.query_params.get(STUDY, ""))
    _address(going)
    return str(going)


def arrived() -> None:
    """The page was drawn to its end: from now on the browser's address counts."""
    st.session_state.pop(GOING, None)


def _address(study: str) -> None:
    if study == st.query_params.get(STUDY, ""):
        return
    if study:
        st.query_params[STUDY] = study
    else:
        st.query_params.pop(STUDY, None)


def _filters() -> Query:
    """What the reader wants to see; it is the same after a study or another page was open."""
    search, part, mine = st.columns([3, 1.5, 1.5], vertical_alignment="bottom")
    status, found = st.columns([4, 3])
    text = search.text_input(
        "Search", _kept.first("review-text", ""), key="review-text", placeholder="Study or file"
    )
    chosen = _pills(status, "Status", STATUS, "review-status")
    findings = _pills(found, "Finding", _reading.WORDS, "review-finding")
    parts = [None, *_cascade.parts(), BodyPart.OTHER]
    kept = _kept.first("review-part", None)
    named = part.selectbox(
        "Body part",
        parts,
        index=parts.index(kept) if kept in parts else 0,
        format_func=lambda p: p.words.capitalize() if p else "All",
        key="review-part",
    )
    reader = _worklist.reader()
    undecided = mine.toggle(
        "Not read by me",
        _kept.first("review-mine", False),
        key="review-mine",
        disabled=not reader,
        help=None if reader else "Enter your name to use this.",
    )
    _kept.keep("review-text", text)
    _kept.keep("review-part", named)
    _kept.keep("review-mine", undecided)
    return Query(
        tuple(chosen),
        tuple(findings),
        (named,) if named else (),
        text or "",
        reader if undecided else "",
        asked_by=reader,
    )


def _pills(place: DeltaGenerator, label: str, words: Mapping[K, str], key: str) -> list[K]:
    chosen: list[K] = place.pills(
        label,
        list(words),
        selection_mode="multi",
        default=_kept.first(key, []),
        format_func=words.__getitem__,
        key=key,
    )
    return _kept.keep(key, chosen or [])


def _table(entries: list[Entry]) -> None:
    if not entries:
        html("<p class='soft'>No study matches.</p>")
        return
    rows(
        COLUMNS,
        [_row(e) for e in entries],
        key="worklist",
        label="Worklist",
        opens="Study",
        on_open=open_study,
        current=st.session_state.get(LAST, ""),
        most=ROWS_SHOWN,
    )


def status(of: Status, blind: bool) -> str:
    """In words. blind: for a reader who has still to decide without knowing what others say."""
    if blind and of in TELLING:
        return READ_BY_OTHERS if _worklist.reader() else READ
    return STATUS[of]


def _row(entry: Entry) -> Row:
    blind = not has_decided(entry.decisions, _worklist.reader())
    cells = (
        finding(entry.finding),
        None if entry.probability is None else 100 * entry.probability,
        entry.body_part.words.capitalize() if entry.body_part else "",
        entry.title + SUPERSEDED * bool(entry.newer),
        entry.views,
        status(entry.status, blind),
        ", ".join(entry.readers),
        f"{entry.added:%Y-%m-%d %H:%M}",
    )
    return Row(entry.id, cells)


def _take_away(store: Store, wanted: Query, entries: list[Entry]) -> None:
    """Downloads of what the filters leave; each is a line in the audit."""
    # Who trains may make a data set of all decisions, on the page Training too.
    for_csv, for_manifest = _asks(Role.ADMIN), _asks(Role.TRAINER)
    with st.container(key="take-away", horizontal=True, vertical_alignment="center"):
        names = st.checkbox(
            "Include names and comments",
            key="review-names",
            help="Titles and comments may name a patient.",
        )
        reader = _worklist.reader() or "unnamed"
        st.download_button(
            "Decisions (CSV)",
            data=partial(_csv, store, wanted, names, reader, for_csv),
            file_name="worklist.csv",
            mime="text/csv",
            on_click="ignore",
            key="export-csv",
        )
        st.download_button(
            "Data set manifest",
            data=partial(_manifest, store, wanted, reader, for_manifest),
            file_name="corrections.csv",
            mime="text/csv",
            on_click="ignore",
            key="export-manifest",
            help="For python -m training data --data manifest:corrections.csv, on the server: "
            "the pictures stay where they are.",
        )
    what = "The CSV omits" if for_manifest is None else "CSV and manifest omit"
    _without(what, sum(kept_from(for_csv, e) for e in entries))


def _without(what: str, hidden: int) -> None:
    """Say that something leaves out what others decided on so many studies, if it does."""
    reader, some = _worklist.reader(), f"{hidden} {'study' if hidden == 1 else 'studies'}"
    if hidden and reader:
        html(
            f"<p class='soft'>{what} what others decided on {some} that you have not decided "
            "yet.</p>"
        )
    elif hidden:
        html(
            f"<p class='soft'>Decisions on {some} are left out. Enter your name above to include "
            "yours.</p>"
        )


def _asks(needed: Role) -> str | None:
    """The reader from whom others' decisions are kept, "" without a name; None for who is signed in
    and may see all. Without a login everybody may read."""
    if _access.actor() != _access.LOCAL and _access.role().covers(needed):
        return None
    return _worklist.reader()


def _csv(store: Store, wanted: Query, names: bool, reader: str, asked_by: str | None) -> str:
    records = store.studies(wanted)
    store.audit("export.made", reader, kind="csv", studies=len(records), names=names)
    return to_csv(records, names, asked_by)


def _manifest(store: Store, wanted: Query, reader: str, asked_by: str | None) -> str:
    records = store.studies(wanted)
    text = to_manifest(records, store.pictures, asked_by)
    pictures = max(0, text.count("\n") - 1)
    store.audit("export.made", reader, kind="manifest", studies=len(records), pictures=pictures)
    return text


def _agreement(store: Store, asked_by: str | None) -> None:
    """Of everything that was ever decided and is not kept from who asks, whatever the filters
    leave; with the release, of what the one in use assessed."""
    every = [r for r in store.studies(Query(with_purged=True)) if not r.newer]
    records = [r for r in every if not kept_from(asked_by, r)]
    try:
        _with_release(records, _mode.in_use())
    except CascadeError as error:  # readers agree with each other without one
        notice(str(error))
    between = "".join(
        f"<tr><td>{escape(names)}</td><td>{_number(figure)}</td></tr>"
        for names, figure in between_readers(records)
    )
    if between:
        head = "<tr><th>Between readers</th><th>Cohen’s kappa</th></tr>"
        html(f"<table class='details figures'>{head}{between}</table>")
    html(f"<p class='soft'>{WHAT_THEY_ARE}</p>")
    _without("The figures omit", len(every) - len(records))


def _with_release(records: list[StudyRecord], release: Release) -> None:
    own, others = of_release(records, release.sha256)
    rows = "".join(_agreement_row(a) for a in with_readers(own))
    html(
        f"<p class='soft'>Release {escape(release.id)}, mode {release.mode}.{_left_out(others)}</p>"
    )
    head = (
        "<tr><th>Reference</th><th>Sensitivity</th><th>Specificity</th><th>Cohen’s kappa</th></tr>"
    )
    html(f"<table class='details figures'>{head}{rows}</table>")


def _left_out(readings: int) -> str:
    if not readings:
        return ""
    noun = "reading is" if readings == 1 else "readings are"
    return f" {readings} {noun} left out, of studies that another release or mode assessed."


def _agreement_row(found: Agreement) -> str:
    figures = (_share(found.sensitivity), _share(found.specificity), _number(found.kappa))
    cells = "".join(f"<td>{f}</td>" for f in figures)
    return f"<tr><td>{escape(found.name)}</td>{cells}</tr>"


def _share(figure: Figure) -> str:
    if math.isnan(figure.value):
        return f"not defined, n&nbsp;=&nbsp;{figure.n}"
    low, high = 100 * figure.low, 100 * figure.high
    return f"{100 * figure.value:.0f}&nbsp;% [{low:.0f}, {high:.0f}], n&nbsp;=&nbsp;{figure.n}"


def _number(figure: Figure) -> str:
    if math.isnan(figure.value):
        return f"not defined, n&nbsp;=&nbsp;{figure.n}"
    return f"{figure.value:.2f} [{figure.low:.2f}, {figure.high:.2f}], n&nbsp;=&nbsp;{figure.n}"
