"""Entry of the dashboard: ``streamlit run streamlit_app.py``. Each page is a file in pages/."""

from __future__ import annotations

import streamlit as st

from pages import _access

# Drawn here because Streamlit fetches the icons it offers for a browser tab from the internet.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" '
    'rx="3" fill="#14181b"/><path d="M5 2v12M11 2v12M5 8h6" stroke="#d9dee2" '
    'stroke-width="2" stroke-linecap="round"/></svg>'
)

st.set_page_config(page_title="Bone radiographs", page_icon=ICON, layout="wide")
PAGES = [
    st.Page("pages/diagnose.py", title="Diagnose", default=True),
    st.Page("pages/batch.py", title="Batch"),
    st.Page("pages/review.py", title="Review"),
    st.Page("pages/training.py", title="Training"),
    st.Page("pages/metrics.py", title="Metrics"),
    st.Page("pages/releases.py", title="Releases"),
]
st.navigation(_access.enter(PAGES), position="top").run()
_access.way_out()
