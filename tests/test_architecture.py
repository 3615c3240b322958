"""The direction of the imports, held on the syntax tree."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [
    p for folder in ("core", "training", "pages") for p in sorted((ROOT / folder).rglob("*.py"))
] + [ROOT / "streamlit_app.py"]
DECODERS = {"imaging.py", "dicom.py", "lut.py", "grey.py", "header.py"}


@cache
def imports(path: Path) -> set[str]:
    """Full dotted names that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{a.name}" for a in node.names}
    return names


def roots(path: Path) -> set[str]:
    return {n.partition(".")[0] for n in imports(path)}


def of(folder: str) -> list[Path]:
    return [p for p in SOURCES if p.is_relative_to(ROOT / folder)]


def test_core_knows_nothing_of_what_uses_it():
    assert not [p for p in of("core") if roots(p) & {"training", "pages", "streamlit"}]


def test_training_knows_nothing_of_pages():
    assert not [p for p in of("training") if roots(p) & {"pages", "streamlit"}]


def test_the_worklist_knows_nothing_of_batches():
    assert not [p for p in of("core/store") if any(n.startswith("core.batch") for n in imports(p))]


def test_within_core_only_the_decode_boundary_opens_images():
    reads = ("PIL", "pydicom.dcmread", "pydicom.filereader", "pydicom.pixels", "pydicom.encaps")
    others = [p for p in of("core") if p.name not in DECODERS]
    for path in others:
        assert not [n for n in imports(path) if n.startswith(reads) or n == "pydicom"], path
        text = path.read_text(encoding="utf-8")
        assert "imread(" not in text and "imdecode(" not in text, path


def test_only_the_registry_reads_weights():
    readers = [p.name for p in [*of("core"), *of("pages")] if "safetensors" in roots(p)]
    assert readers == ["registry.py"]


def test_threads_of_torch_sleep_while_they_wait():
    """libgomp says what it goes by when torch is loaded, which comes after ``core``."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", "import core.cascade"],
        cwd=ROOT,
        env=environment | {"OMP_DISPLAY_ENV": "true"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr


def test_pages_hold_no_model_code():
    for path in [*of("pages"), ROOT / "streamlit_app.py"]:
        assert not roots(path) & {"torch", "torchvision", "pydicom", "pytorch_grad_cam"}
