"""The page Batch: a folder or many files to a table, in a process that outlives the tab."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from html import escape

import streamlit as st

from core.batch import kept
from core.batch.kept import Batch
from core.batch.progress import Progress, duration
from core.errors import CascadeError
from core.settings import Settings
from pages import _access, _audit, _streamlit, _theme
from pages._sources import Source

NO_FOLDERS = "No server folder is available yet. Ask IT to add one (BONE_ROOTS)."
LEAD = "Assess a folder, an archive or many files. It continues when this page is closed."
POLL = 1.0
SHOWN = (
    "batch-shown"  # in the session: the folder's name; the widget's own state goes with the page
)
CHOICE = "batch-choice"
GENERATION = "batch-generation"  # in the session: of the drop zone, which the page cannot empty
FILES = "batch-files"  # and what lies in it, and what lay in those before
ASKED = "batch-asked"  # and what a click asked for, with the name of the batch that it began
GONE = "The batch that was shown here has been deleted. Please choose another one."


def body() -> None:
    settings = Settings.from_environment()
    batches = kept.all_batches(settings.home)
    with st.expander("New batch", expanded=not batches):
        _new(settings)
    if not batches:
        _theme.html("<p class='soft'>No batch yet. Results and downloads will appear here.</p>")
        return
    by_name = {b.folder.name: b for b in batches}
    shown = _choice(by_name)
    if shown is None:
        _theme.refused()
        _theme.notice(GONE)
        from pages import _batch_results

        _batch_results.forget()
        return
    _show(by_name[shown], settings)


def _choice(by_name: Mapping[str, Batch]) -> str | None:
    """The batch that is looked at: the newest at first, then whatever the reader chose or began.

    It stays that one when others come and go. None once it has been deleted, here or elsewhere:
    another one in its place would be taken for it.
    """
    names, labels = list(by_name), _labels(by_name.values())

    def choose() -> None:
        st.session_state[SHOWN] = st.session_state[CHOICE]

    shown = st.session_state.setdefault(SHOWN, names[0])
    shown = shown if shown in by_name else None
    if st.session_state.get(CHOICE) != shown:
        st.session_state[CHOICE] = shown
    st.selectbox(
        "Batch",
        names,
        index=None,
        key=CHOICE,
        format_func=lambda name: labels.get(name, name),
        on_change=choose,
        required=True,
        placeholder="Choose a batch",
        label_visibility="collapsed",
    )
    return shown


def _labels(batches: Iterable[Batch]) -> dict[str, str]:
    """What each is called, by its folder's name. No two alike: a browser sends the label back.

    Those with one name and second have the end of their folder's name, too: it stays theirs when
    another one is deleted.
    """
    labels = {
        b.folder.name: f"{time.strftime('%d %b %H:%M:%S UTC', time.gmtime(b.created))} · {b.title}"
        for b in batches
    }
    count = Counter(labels.values())
    return {
        name: f"{label} ({name.rpartition('-')[2]})" if count[label] > 1 else label
        for name, label in labels.items()
    }


def _new(settings: Settings) -> None:
    """Where the files come from. Both ways end in the same command."""
    left, right = st.columns(2, gap="large")
    with left:
        if settings.roots:
            _of_server(settings)
        else:
            _theme.html(f"<p class='soft'>{NO_FOLDERS}</p>")
    with right:
        files = _drop_zone(settings)
        _theme.html(
            "<p class='soft'>Dropped files are kept with the batch until it is deleted.</p>"
        )
        mixed = kept.is_mixed([f.name for f in files])
        if mixed:
            _theme.notice(kept.ARCHIVE_ALONE)
        if st.button("Assess the files", disabled=not files or mixed):

            def begin(name: str) -> Batch:
                return kept.of_files([(f.name, f.read()) for f in files], settings, name)

            _started([f.id for f in files], begin, settings, _empty)


def _of_server(settings: Settings) -> None:
    path = st.text_input(
        "A folder or ZIP archive on the server",
        placeholder=str(settings.roots[0]),
        key="batch-folder",
    )
    roots = ", ".join(str(r) for r in settings.roots)
    _theme.html(f"<p class='soft'>{escape(f'Must be inside: {roots}')}</p>")
    if st.button("Assess the folder", disabled=not path.strip()):
        _started(path, lambda name: kept.of_folder(path, settings, name), settings)


def _drop_zone(settings: Settings) -> list[Source]:
    """Draw the drop zone; the files that lie in it, after those that lay in it before the reader
    looked at another page: Streamlit empties it then, and keeps them in memory."""
    key = f"batch-files-{st.session_state.setdefault(GENERATION, 0)}"
    lies, lay = st.session_state.setdefault(FILES, ([], []))
    if key not in st.session_state:
        lay += lies
        lies.clear()
    files = st.file_uploader(
        "Or files, or one ZIP archive",
        accept_multiple_files=True,
        key=key,
        max_upload_size=max(1, settings.limits.max_bytes // 2**20),
    )
    lies[:] = [Source(f.file_id, f.name, f.getvalue, size=f.size) for f in files]
    if lay:
        with st.container(horizontal=True, vertical_alignment="center"):
            named = lay[0].name + (f" and {len(lay) - 1} more" if lay[1:] else "")
            _theme.html(f"<p class='soft'>Dropped before: {escape(named)}</p>")
            st.button("Remove", on_click=_take_out, args=(lay,))
    return [*lay, *lies]


def _empty() -> None:
    """A new drop zone, and nothing that lay in one before."""
    st.session_state[GENERATION] += 1
    for files in st.session_state[FILES]:
        _take_out(files)


def _take_out(files: list[Source]) -> None:
    _streamlit.give_back(source.id for source in files)
    files.clear()


def _started(
    what: object,
    begin: Callable[[str], Batch],
    settings: Settings,
    then: Callable[[], None] = lambda: None,
) -> None:
    """Begin and show the new batch; what is wrong is said where the button was.

    what: tells a second click, which may cut the run of the first one short: it shows the batch
    that the first one began.
    """
    before, name = st.session_state.get(ASKED, (None, ""))
    batches = kept.all_batches(settings.home) if before == what else []
    batch = next((b for b in batches if b.folder.name == name and b.running), None)
    try:
        if batch is None:
            name = kept.new_name()
            st.session_state[ASKED] = what, name
            actor = _access.actor()
            batch = begin(name)
            _note_start(batch, actor)
    except (CascadeError, OSError) as error:
        st.session_state.pop(ASKED, None)
        _theme.notice(_theme.sentence(error))
        return
    st.session_state[SHOWN] = batch.folder.name
    then()
    st.rerun()


def _note_start(batch: Batch, actor: str) -> None:
    """Into the audit, by its number; a batch that cannot be written there is stopped again.

    actor: was asked for before the batch began, as Streamlit may end a run wherever it is asked.
    """
    try:
        _audit.write("batch.started", actor, batch=batch.folder.name)
    except CascadeError:
        batch.stop()
        raise


def _go_on(batch: Batch, anew: bool = False) -> None:
    actor = _access.actor()
    batch.start(anew)
    _note_start(batch, actor)


def _remove(batch: Batch) -> None:
    if not batch.running:  # else it is refused, and nothing is deleted
        _audit.write("batch.deleted", _access.actor(), batch=batch.folder.name)
    batch.remove()


def _show(batch: Batch, settings: Settings) -> None:
    """Progress while it runs, and the table; only this part is drawn again and again."""
    running = batch.running
    st.fragment(_state, run_every=POLL if running else None)(batch, running, settings)


def _state(batch: Batch, was_running: bool, settings: Settings) -> None:
    with _theme.boundary():
        from pages import _batch_results

        # A click on a button that has been drawn anew for another batch must not mean that one.
        name = batch.folder.name
        running, progress = batch.running, batch.progress()
        why = "" if running or batch.finished else batch.failure()
        if (was_running and not running) or not batch.folder.exists():
            st.rerun()  # of all the page; it was deleted here or in another tab
        with st.container(horizontal=True, vertical_alignment="center", key="batch-state"):
            if running:
                st.progress(
                    progress.done / progress.total if progress.total else 0.0,
                    text=_progress_text(progress),
                )
                st.button("Stop", key=f"stop-{name}", on_click=_theme.ask, args=(batch.stop,))
            else:
                tally = _batch_results.tally(batch, progress.total) if batch.finished else ""
                _theme.html(f"<p class='tally'>{tally or _ending(batch, progress)}</p>")
                if not batch.finished:
                    st.button("Resume", key=f"on-{name}", on_click=_theme.ask, args=(_go_on, batch))
                if why and batch.refused:
                    _begin_again(batch)
                _delete(batch)
        _theme.refused()
        if why:
            _theme.notice(why)
        _batch_results.show(batch, settings)


def _begin_again(batch: Batch) -> None:
    """Asks first: what was scored may be the work of hours."""
    name, args = batch.folder.name, (_go_on, batch, True)
    with st.popover("Restart", key=f"again-{name}"):
        _theme.html(
            f"<p>The results of <b>{escape(batch.title)}</b> so far are deleted, and all of its "
            "files are assessed again with the current release and engine.</p>"
        )
        st.button("Assess all again", key=f"anew-{name}", on_click=_theme.ask, args=args)


def _delete(batch: Batch) -> None:
    """Asks first: what was dropped is nowhere else."""
    name = batch.folder.name
    with st.popover("Delete", key=f"delete-{name}"):
        _theme.html(
            f"<p>The results of <b>{escape(batch.title)}</b> and the files that were dropped for "
            "it are deleted.</p>"
        )
        st.button(
            "Delete permanently", key=f"deleted-{name}", on_click=_theme.ask, args=(_remove, batch)
        )


def _progress_text(progress: Progress) -> str:
    if not progress.total:
        return "Loading the model and listing the files"
    text = f"{progress.done} of {progress.total}"
    if not progress.done:
        text += ", loading the model"
    if progress.per_second:
        text += f", {progress.per_second:.1f} a second"
    if progress.seconds_left is not None:
        text += f", {duration(progress.seconds_left)} left"
    return text


def _ending(batch: Batch, progress: Progress) -> str:
    files = "file" if progress.total == 1 else "files"
    if batch.finished:
        return f"<b>{progress.total}</b> {files}, <b>{progress.rejected}</b> not assessed."
    how = "Interrupted" if batch.failure() == kept.CUT_OFF else "Stopped"
    return f"{how} after <b>{progress.done}</b> of {progress.total} {files}."


with _theme.frame("Batch", LEAD):
    body()
