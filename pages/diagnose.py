"""The page Diagnose: drop radiographs, get body part, finding and heatmap of each."""

from __future__ import annotations

import streamlit as st

from pages import _ahead, _cascade, _mode, _sources, _theme
from pages._sources import Sample, Source

LEAD = "Which bone, whether a finding is suspected, and where the evidence lies."


def body() -> None:
    """Drop zone, then results; nothing heavy is imported before there is a file to read."""
    loader = _cascade.loader()
    if loader.failure is not None:
        _unavailable(loader.failure)
        return
    limits = loader.settings.limits
    sources = [*_sources.drop_zone(limits), *_sources.photographed(), *_sources.tried()]
    _sources.shape_drop_zone(len(sources))
    if gone := _sources.let_go():
        _theme.notice(gone)
    _left_out()
    welcome = st.empty()  # stays in its place, so that what follows does not move when it goes
    if not sources:
        with welcome.container():
            _empty_state()
        return
    with st.container():
        _results(sources, loader)


def _left_out() -> None:
    """What of the drop is no view."""
    own, archives = _sources.left_out()
    if archives:
        _theme.notice("ZIP archives are not opened here: please drop them on the page Batch.")
    if own:
        files = "file was" if own == 1 else "files were"
        _theme.html(
            f"<p class='soft'>{own} system {files} skipped (hidden files, Thumbs.db, DICOMDIR, …)."
            "</p>"
        )


def _results(sources: list[Source], loader: _cascade.Loader) -> None:
    future = loader.start()
    if not future.done():
        with st.spinner("Loading the model. This happens once."):
            future.exception()
    cascade = _mode.of(future.result())

    from pages import _results as results  # imports torch, which the cascade has by now
    from pages import _scoring as scoring

    results.Results(sources, cascade, loader.settings.limits, scoring.session()).show()


def _unavailable(failure: BaseException) -> None:
    """Without a model nothing is assessed; the sentence says what is wrong with it."""
    with _theme.boundary():
        raise failure
    st.button("Try again", on_click=_cascade.retry)


def _empty_state() -> None:
    """What the page is for and what to do first."""
    named = [f"the {part.words}" for part in _cascade.parts()]
    parts = " and ".join(", ".join(named).rsplit(", ", 1)) or "bones"
    _theme.html(
        f"<p class='lead'>For radiographs of {parts}, as PNG, JPEG, "
        "TIFF, WebP or DICOM. Each gets its body part, a finding with its probability, and a "
        "heatmap. They are processed where this program runs, and sent nowhere else.</p>"
    )
    samples = _sources.samples()[: _sources.MOST_SAMPLES]
    if samples:
        _theme.html("<p class='soft'>Or try a simulated radiograph</p>")
        width = _sources.SAMPLES_A_ROW
        for start in range(0, len(samples), width):
            for column, sample in zip(st.columns(width), samples[start:], strict=False):
                with column:
                    _thumbnail(sample)
    _ahead.fetch()


def _thumbnail(sample: Sample) -> None:
    with st.container(key=f"sample-{sample.id}"):
        st.image(sample.thumbnail, width="stretch", alt=sample.title)
        st.button(
            sample.title,
            key=f"try-{sample.id}",
            on_click=_sources.try_sample,
            args=(sample.id,),
            width="stretch",
        )


with _theme.frame("Diagnose", LEAD):
    body()
