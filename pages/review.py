"""The page Review: the worklist, and one study after another to agree or disagree with."""

from __future__ import annotations

from pages import _audit, _review_list, _theme

LEAD = "Review what the release has found: agree, disagree, or ask for a second look."


def body() -> None:
    """One study if the address names one, else the list."""
    store = _audit.store()
    study = _review_list.current()
    if study:
        from pages import _review_study  # decoders and viewer, which the list does without

        _review_study.StudyPage(store, study).draw()
    else:
        _review_list.draw(store)
    _review_list.arrived()


with _theme.frame("Review", LEAD):
    body()
