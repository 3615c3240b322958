"""What the first result is drawn with, fetched by the browser while nobody waits for it.

Streamlit's page fetches and compiles the code of a kind of element when the first of that kind is
drawn: for a result some fifty files. One of each kind, out of sight on the empty page, moves that
to before the reader drops a radiograph.
"""

from __future__ import annotations

import functools
from typing import Any

import streamlit as st


def fetch() -> None:
    """One element of each kind that the empty page lacks and a result has; none is displayed."""
    with st.container(key="ahead"):  # see _theme.css
        # Its data is made on a click, as that of every download: else the browser asks whether the
        # file is there, which may have gone with the next run of the page.
        st.download_button("Ahead", bytes, key="ahead-download", on_click="ignore", disabled=True)
        st.checkbox("Ahead", key="ahead-checkbox", disabled=True)
        st.slider("Ahead", key="ahead-slider", disabled=True)
        st.selectbox("Ahead", [""], key="ahead-selectbox", disabled=True)
        st.progress(0.0)
        _component()(key="ahead-component")


@functools.cache
def _component() -> Any:
    return st.components.v2.component("ahead", js="export default () => {};")
