"""``python -m core predict``: one valid line for each input, in order, whatever the input is."""

from __future__ import annotations

import io
import json
import os
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from core.__main__ import main
from core.commands import predict, verify
from core.notes import notes_of
from core.origin import Origin
from core.registry import Registry
from core.types import (
    BodyPart,
    BodyPartPrediction,
    Finding,
    FracturePrediction,
    ImageResult,
    MemberPrediction,
)
from tests import tiny
from tests.permissions import not_permitted

KEYS = {
    "file",
    "sha256",
    "status",
    "reason",
    "body_part",
    "fracture",
    "release",
    "photograph",
    "origin",
    "release_sha256",
    "milliseconds",
}


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "a.png"), tiny.picture("hand", True, rng))
    (tmp_path / "b.png").write_text("this is no picture")
    cv2.imwrite(str(tmp_path / "c.jpg"), tiny.picture("elbow", False, rng))
    whole = (tmp_path / "c.jpg").read_bytes()
    (tmp_path / "d.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "e.dcm").write_bytes(b"")
    (tmp_path / "__MACOSX").mkdir()
    for name in (".hidden", "Thumbs.db", "DICOMDIR", "__MACOSX/a.jpg"):  # the system's own
        (tmp_path / name).write_bytes(whole)
    return tmp_path


def lines(weights, capsys, *arguments: str) -> list[dict]:
    assert main(["--weights", str(weights), "predict", "--json", *arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_for_each_file_in_order(weights, folder, capsys):
    records = lines(weights, capsys, str(folder), str(folder / "missing.png"))
    assert [r["file"].rpartition("/")[2] for r in records] == [
        "a.png",
        "b.png",
        "c.jpg",
        "d.jpg",
        "e.dcm",
        "missing.png",
    ]
    for record in records:
        assert record.keys() == KEYS
        assert record["release"] == "random"
        assert len(record["release_sha256"]) == 64
    by_name = {r["file"].rpartition("/")[2]: r for r in records}
    for name in ("b.png", "d.jpg", "e.dcm", "missing.png"):
        assert by_name[name]["status"] == "rejected"
        assert by_name[name]["reason"].endswith(".")
        assert by_name[name]["body_part"] is None
        assert by_name[name]["fracture"] is None
    assert by_name["missing.png"]["sha256"] is None
    assert len(by_name["b.png"]["sha256"]) == 64


def test_what_a_folder_hides_is_told(weights, folder, capsys):
    """A folder that may not be read, and a link that leads nowhere."""
    (folder / "a link.png").symlink_to("nowhere.png")
    (folder / "closed").mkdir()
    records = lines(weights, capsys, str(folder))
    assert [r["reason"] for r in records][:2] == ["The file does not exist.", None]
    with not_permitted(folder / "closed", left=0):
        assert main(["--weights", str(weights), "predict", str(folder)]) == 1
    said = capsys.readouterr()
    assert not said.out and f"The folder {folder / 'closed'} cannot be read." in said.err


def test_a_name_that_the_terminal_has_no_signs_for_is_written_out(tmp_path, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(verify, "run", lambda *_: sys.stdout.write("Schädel.png") and 0)
    assert main(["verify"]) == 0
    out.flush()
    assert out.buffer.getvalue() == b"Sch\\xe4del.png"
    monkeypatch.setattr(sys, "stdout", io.StringIO())  # which has no encoding
    assert main(["verify"]) == 0


def test_probabilities_are_probabilities(weights, folder, capsys):
    records = lines(weights, capsys, str(folder / "a.png"), str(folder / "c.jpg"))
    assert any(record["status"] == "ok" for record in records)
    for record in records:
        if record["status"] == "rejected":  # random weights may well say "other"
            assert "fracture model" in record["reason"]
            continue
        assert sum(record["body_part"]["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert 0 <= record["fracture"]["probability"] <= 1
        assert record["fracture"]["finding"] in ("not_suspected", "doubtful", "suspected")


def test_without_json_a_sentence_each(weights, folder, capsys):
    assert main(["--weights", str(weights), "predict", str(folder / "b.png")]) == 0
    out = capsys.readouterr().out
    assert out.startswith(str(folder / "b.png"))
    assert "rejected" in out


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="such names are no names there")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_name_that_is_no_utf8_is_written_out_and_the_next_file_is_read(
    weights, folder, capfdbinary, options
):
    odd = folder / os.fsdecode(b"latin-\xe9.png")
    (folder / "a.png").rename(odd)
    given = [str(odd), str(folder / "b.png")]
    assert main(["--weights", str(weights), "predict", *options, *given]) == 0
    first, second = capfdbinary.readouterr().out.decode().splitlines()
    assert "b.png" in second
    name = f"{folder}/latin-\\udce9.png"  # as in the table of a batch
    assert json.loads(first)["file"] == name if options else first.startswith(f"{name}: ")


def test_the_sentence_ends_in_what_a_reader_must_know(weights):
    release = Registry.open(weights).find("champion")
    part = BodyPartPrediction(BodyPart.HAND, 0.99, {BodyPart.HAND: 0.99, BodyPart.OTHER: 0.01})
    fracture = FracturePrediction(0.8, Finding.SUSPECTED)
    result = ImageResult("a.dcm", "0" * 64, None, "random", "0" * 64, 1.0, part, fracture)
    assert predict._sentence(result, release) == "a.dcm: hand (99 %), suspected (80 %)"
    near = replace(result, fracture=FracturePrediction(0.2996, Finding.NOT_SUSPECTED))
    assert "not suspected (29.96 %)" in predict._sentence(near, release)
    origin = Origin(frames=3, cautions=("This is raw detector data.",))
    said = predict._sentence(replace(result, origin=origin), release)
    assert said == (
        "a.dcm: hand (99 %), suspected (80 %). This is raw detector data. "
        "Of a file with 3 frames 1 was assessed."
    )
    refused = replace(result, reason="This is no hand.", fracture=None, origin=origin)
    said = predict._sentence(refused, release)
    assert " ".join(notes_of(refused, release)) in said
    assert said.startswith("a.dcm: rejected. This is no hand. This is raw")
    members = (MemberPrediction("ResNet50", 0.97, 0.5), MemberPrediction("Other", 0.03, 0.5))
    torn = replace(result, fracture=FracturePrediction(0.6, Finding.DOUBTFUL, members))
    assert "(60 %). The networks contradict each other" in predict._sentence(torn, release)


def test_wrong_usage_is_2_and_a_failure_is_1(weights, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["predict"])
    assert stop.value.code == 2
    assert main(["--weights", str(tmp_path), "predict", "a.png"]) == 1
    assert "manifest.json" in capsys.readouterr().err


def test_what_a_header_gives_away_is_refused_at_once(weights, folder, capsys):
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 13_000, 13_000, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(13_001 * 200), 9)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
    (folder / "bomb.png").write_bytes(bomb)
    names = [str(folder / n) for n in ("bomb.png", "b.png", "e.dcm")]
    records = lines(weights, capsys, *names * 3)
    assert all(r["status"] == "rejected" for r in records)
    assert "13,000" in records[0]["reason"]
    for name in names:  # the best of three: this machine may be busy with something else
        assert min(r["milliseconds"] for r in records if r["file"] == name) < 50
