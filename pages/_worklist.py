"""The worklist as the pages share it: the reader's name, and "Add to worklist"."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import streamlit as st

from core.access import may_be_called
from pages import _access, _audit, _theme

if TYPE_CHECKING:
    from core.manifest import Release
    from core.study import StudyResult

NAME = "Your name or initials"
WHAT_A_NAME_IS_FOR = (
    "Recorded with your decisions, in the audit and in exports. This browser remembers it for "
    "twelve hours."
)
NOT_THIS_NAME = (
    "Please choose another name: this one is reserved or has characters that are not allowed."
)
MOST_CHARACTERS = 60
READER = "reader"  # in the session: the name that was typed, "" where it was taken back
ADDED = "on-worklist-"  # in the session, with a study's key: an ``_Added``
COOKIE = "bone_reader"
REMEMBERED_SECONDS = 12 * 3600


@dataclass(frozen=True)
class _Added:
    """A study that this session added. pictures: their digests. newer: id of a study that had taken
    its place before, and still has it as another brought that; by: who added that one."""

    pictures: frozenset[str | None]
    newer: str = ""
    by: str = ""


def reader() -> str:
    """Who reads, as the decisions and the audit name them; "" if nobody said.

    With a login it is who signed in. Without one it is the name that was typed in this session, or
    the one that the browser remembers from an earlier one.
    """
    if (person := _access.actor()) != _access.LOCAL:
        return person
    if READER in st.session_state:
        name = str(st.session_state[READER])
    else:
        name = unquote(st.context.cookies.get(COOKIE, ""))
    name = name.strip()[:MOST_CHARACTERS]
    return name if may_be_called(name) else ""


def reading_as() -> None:
    """Who reads, and a way to say that it is another."""
    with st.container(key="reading-as", horizontal=True, vertical_alignment="center"):
        _theme.html(f"<p class='soft'>Reading as <b>{escape(reader())}</b></p>")
        if _access.actor() == _access.LOCAL:
            st.button("Not you?", key="other-reader", on_click=_forget, type="tertiary")
            _remember()


def _forget() -> None:
    st.session_state[READER] = ""


def _remember() -> None:
    """Have the browser keep what was said in this session, so that a reload does not ask again.

    A cookie and nothing else that a browser keeps, because the server has it before it draws the
    page; for the length of a shift, because the next reader may sit at the same screen.
    """
    if READER in st.session_state:
        _cookie()(key="remembered", data=[COOKIE, quote(reader()), REMEMBERED_SECONDS])


@functools.cache
def _cookie() -> Any:
    return st.components.v2.component(
        "cookie",
        js="""export default function ({ data: [name, value, seconds] }) {
          const age = value ? seconds : 0;
          document.cookie = `${name}=${value}; Max-Age=${age}; Path=/; SameSite=Strict`;
        }""",
    )


def ask_reader(key: str) -> None:
    """A field for the reader's name; every page of this browser knows it afterwards."""

    def keep() -> None:
        st.session_state[READER] = st.session_state[key]

    st.text_input(
        NAME,
        value=reader(),
        key=key,
        max_chars=MOST_CHARACTERS,
        on_change=keep,
        help=WHAT_A_NAME_IS_FOR,
    )
    if not may_be_called(str(st.session_state.get(READER, ""))):
        _theme.notice(NOT_THIS_NAME)
    _remember()


def add(
    title: str,
    result: StudyResult,
    release: Release,
    pictures: Callable[[], Mapping[str, bytes]],
    key: str,
    disabled: bool = False,
) -> None:
    """Draw "Add to worklist" for one study, as `Store.add_study` takes it.

    pictures: the encoded files by SHA-256, asked for only when the study is added; from then on
    they are kept on disk. key: tells this button from those of other studies. disabled: shows that
    it can be done later.
    """
    done = f"{ADDED}{key}"
    if done in st.session_state:
        _remember()
        _is_on_it(st.session_state[done], key)
        return
    with _theme.boundary():
        if _asked(key, disabled):
            store = _audit.store()
            study = store.add_study(title, result, release, pictures(), reader())
            newer = store.study(study).newer
            by = store.study(newer).added_by if newer else ""
            _note(done, _Added(frozenset(v.sha256 for v in result.views), newer, by))
            st.rerun()


def _is_on_it(added: _Added, key: str) -> None:
    if not added.newer:
        _theme.html("<p class='soft'>On the worklist: see the page Review.</p>")
        return
    _theme.notice(f"On the worklist, superseded by a study that {added.by} added.")
    if st.button("Open that study", key=f"newer-{key}", width="stretch"):
        from pages import _review_list  # which imports this module

        _review_list.open_study(added.newer)
        st.switch_page("pages/review.py")


def _note(done: str, added: _Added) -> None:
    """Keep for the session what was added last of these pictures.

    What it took the place of can be added again: a view may be moved and taken back.
    """
    noted = [str(key) for key in st.session_state if str(key).startswith(ADDED)]
    for key in noted:
        if added.pictures & st.session_state[key].pictures:
            del st.session_state[key]
    st.session_state[done] = added


def _asked(key: str, disabled: bool) -> bool:
    """Whether the reader asked for it, and is known by name."""
    if reader():
        _remember()
        return st.button("Add to worklist", key=f"add-{key}", width="stretch", disabled=disabled)
    # A form, as Enter in its field means the button, and a click elsewhere nothing.
    with (
        st.popover("Add to worklist", width="stretch", disabled=disabled),
        st.form(f"who-{key}", border=False),
    ):
        name = st.text_input(
            NAME, key=f"reader-{key}", max_chars=MOST_CHARACTERS, help=WHAT_A_NAME_IS_FOR
        )
        if not st.form_submit_button("Add", key=f"add-{key}", width="stretch", disabled=disabled):
            return False
    if not name.strip():
        _theme.notice("Please enter your name first.")
        return False
    if not may_be_called(name):
        _theme.notice(NOT_THIS_NAME)
        return False
    st.session_state[READER] = name
    return True
