"""Whether a session asks one network a part or all of them, where the release has several.

The choice belongs to the session. It begins with the mode that the program was started in, or else
with the release's own default, and is kept when another page is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from core.types import Mode
from pages import _cascade

if TYPE_CHECKING:
    from core.cascade import Cascade
    from core.manifest import Release

KEPT = "mode-kept"
LABELS = {Mode.FAST: "Fast", Mode.ENSEMBLE: "Ensemble"}


def of(cascade: Cascade) -> Cascade:
    """The cascade in the mode that this session chose, where its release has that."""
    wanted = st.session_state.get(KEPT)
    return cascade.in_mode(wanted) if wanted in cascade.release.modes else cascade


def in_use() -> Release:
    """The release that this session works with, in its mode, as far as the manifest tells.

    Raises WeightsInvalid where it cannot be read, SettingsInvalid for a setting without meaning.
    """
    from core.registry import Registry

    settings = _cascade.loader().settings
    release = Registry.open(settings.weights).find(settings.release)
    wanted = st.session_state.get(KEPT) or settings.mode
    return release.in_mode(wanted) if wanted in release.modes else release


def choose(release: Release) -> None:
    """The switch; nothing where there is nothing to choose. All of the page is drawn again."""
    if len(release.modes) < 2:
        return
    key = f"mode-{release.id}"  # of another release it begins with that one's default

    def keep() -> None:
        st.session_state[KEPT] = st.session_state[key]
        st.session_state["leave"] = True

    st.segmented_control(
        "Networks",
        [m for m in Mode if m in release.modes],
        default=release.mode,
        key=key,
        required=True,
        on_change=keep,
        format_func=LABELS.__getitem__,
        help="Fast uses one network for a finding. Ensemble averages all networks of the release, "
        "which takes longer.",
    )
