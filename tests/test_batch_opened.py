"""The radiograph of a batch that is open beside the table, and what is noted of who saw what."""

from __future__ import annotations

from pathlib import Path

from streamlit.testing.v1 import AppTest

from pages import _theme
from pages._batch_opened import Opened
from pages._batches import Batch
from tests.listed import keys, viewers
from tests.test_batch_page import finished, page, quiet, settings, text  # noqa: F401  (fixtures)


def opened(app: AppTest, batch: Batch, file: str) -> Opened:
    """A file of the batch is opened, as a row of the table does it."""
    found: Opened = app.session_state["batches"][batch.folder.name].opened
    found.file = file
    app.run()
    assert not app.exception and "Something went wrong" not in text(app)
    return found


def test_a_saved_picture_says_what_the_batch_says(settings, tmp_path, quiet):  # noqa: F811
    batch = finished(settings, tmp_path)
    *_, good, _ = [record for _, record in batch.records()]
    app = page()
    opened(app, batch, good["file"])
    [told] = viewers(app)
    other, found, *rest = told["caption"]
    assert other == "Heatmap by release random" and rest == ["Release stand", _theme.RESEARCH_ONLY]
    assert found.startswith(good["body_part"]["label"]) and "probability" in found


def test_what_has_no_picture_is_left_by_key(settings, tmp_path, quiet):  # noqa: F811
    batch = finished(settings, tmp_path)
    *_, good, broken = [record["file"] for _, record in batch.records()]
    app = page()
    opened(app, batch, broken)
    assert len(keys(app)) == 1 and not viewers(app)
    shortcuts = {b.label: b.proto.shortcut for b in app.button}
    assert (shortcuts["Previous"], shortcuts["Next"]) == ("p", "n")
    Path(good).unlink()
    opened(app, batch, good)
    assert len(keys(app)) == 1 and not viewers(app)
