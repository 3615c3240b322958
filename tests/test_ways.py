"""What ``python -m bench ways`` compares: the networks that a batch and the page use."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import ways
from core.cascade import Cascade
from core.settings import Settings
from core.types import Mode
from tests.ensembles import NAMES, with_members


def test_it_takes_the_networks_that_the_program_keeps(weights, tmp_path, monkeypatch):
    """They lie under the digest of the release in its default mode, and each mode has its own."""
    with_members(weights, tmp_path, next(iter(NAMES)), default="ensemble")
    asked: list[tuple[str, str]] = []

    def choose(cascade: Cascade, wish: str, home: Path, **_: bool) -> tuple[Cascade, str]:
        asked.append((wish, cascade.release.sha256))
        return cascade, "as asked"

    def mode(cascade: Cascade, *_: object) -> Mode:
        return cascade.release.mode

    monkeypatch.setattr(ways.choice, "choose", choose)
    monkeypatch.setattr(ways, "_usual", lambda *_: pytest.fail)
    monkeypatch.setattr(ways, "_one", lambda *given: [mode(*given)])
    monkeypatch.setattr(ways, "_together", mode)
    settings = Settings(weights=tmp_path, home=tmp_path / "home", engine="auto")
    found, missing = ways.all_ways([b""], settings)
    assert not missing
    assert {wish for wish, _ in asked} == {"openvino", "openvino-int8", "auto"}
    assert {digest for _, digest in asked} == {Cascade.load(tmp_path, device="cpu").release.sha256}
    used = {name.partition(",")[0]: run() for name, run in found.items() if "together" in name}
    assert used == {"cascade": Mode.FAST, "ensemble": Mode.ENSEMBLE}
