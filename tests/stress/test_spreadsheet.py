"""Row 6: what LibreOffice makes of our CSV files. Nothing in them may become a formula.

Needs ``soffice`` (Debian: libreoffice-calc-nogui).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.registry import Registry
from core.settings import Settings
from core.store import Opinion, Store, Verdict
from core.store.export import to_csv
from core.types import BodyPart, Finding
from tests import worklist
from tests.simulated import encoded, phantom

pytestmark = [
    pytest.mark.stress,
    pytest.mark.skipif(not shutil.which("soffice"), reason="LibreOffice is not installed"),
]
FORMULAS = (
    '=HYPERLINK("x";"y")',
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(1)",
    " =1+1",
    "\t=1+1",
    "\n=1+1",
    '=cmd|"calc"!A1',
)


def formulas(file: Path) -> list[str]:
    """The formulas of a CSV file as LibreOffice opens it."""
    profile = file.parent / "profile"
    command = [
        "soffice",
        f"-env:UserInstallation=file://{profile}",
        "--headless",
        "--convert-to",
        "fods",
        "--infilter=CSV:44,34,76,1",
        "--outdir",
        str(file.parent),
        str(file),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    sheet = file.with_suffix(".fods").read_text(encoding="utf-8")
    assert "<table:table-cell" in sheet
    return re.findall(r'table:formula="([^"]*)"', sheet)


def test_what_is_not_guarded_becomes_a_formula(tmp_path):
    """The control: without it, a converter that evaluates nothing would pass everything."""
    file = tmp_path / "control.csv"
    file.write_text("name,other\n=1+1,a\n", encoding="utf-8")
    assert formulas(file) == ["of:=1+1"]


def test_a_batch_of_names_that_are_formulas(tmp_path, weights):
    folder = tmp_path / "given"
    folder.mkdir()
    for n, name in enumerate(FORMULAS):
        (folder / f"{name}.png").write_bytes(encoded(phantom(60, 50, seed=n), "PNG"))
    out = tmp_path / "out.csv"
    command = [sys.executable, "-m", "core", "batch", str(folder), "--out", str(out)]
    environment = {"BONE_WEIGHTS": str(weights), "BONE_DEVICE": "cpu", "BONE_ENGINE": "torch"}
    subprocess.run(command, check=True, capture_output=True, env=os.environ | environment)
    text = out.read_text(encoding="utf-8")
    assert "HYPERLINK" in text
    assert formulas(out) == []


def test_what_readers_wrote(tmp_path, weights):
    """Titles, comments and names of readers in the worklist's CSV."""
    store, release = Store.open(Settings(home=tmp_path)), Registry.open(weights).find("champion")
    for n, text in enumerate(FORMULAS):
        study = worklist.put(store, release, text, 0.9, seed=n)
        opinion = Opinion(Verdict.DISAGREE, BodyPart.HAND, Finding.NOT_SUSPECTED, text)
        store.decide(study, text, opinion, 0)
    out = tmp_path / "worklist.csv"
    out.write_text(to_csv(store.studies(), names=True), encoding="utf-8")
    store.close()
    assert "HYPERLINK" in out.read_text(encoding="utf-8")
    assert formulas(out) == []
