"""ZIP archives that mean harm, read as a batch reads them: nothing unpacked, and quickly."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from core.batch.inputs import Archive
from core.errors import BatchFailed, ImageRejected
from core.settings import ImageLimits
from tests.simulated import encoded, phantom
from tests.timing import quickest

LIMITS = ImageLimits()
PICTURE = encoded(phantom(), "PNG")


def archive(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members:
            file.writestr(name, data)
    return path


def inside(folder: Path) -> Path:
    """Where an archive lies, with a folder of this test above it for what would climb out."""
    (folder / "below").mkdir()
    return folder / "below" / "in.zip"


def read(path: Path) -> list[tuple[str, bytes | str]]:
    """Label and bytes of each member, or the sentence that it is refused with.

    Asserts that nothing was written, in the archive's folder or the one above.
    """
    before = sorted(path.parent.parent.rglob("*"))
    source = Archive(path)
    found: list[tuple[str, bytes | str]] = []
    with source.opened():
        for name in source.names():
            try:
                found.append((source.label(name), source.read(name, LIMITS)))
            except ImageRejected as error:
                found.append((source.label(name), error.reason))
    assert sorted(path.parent.parent.rglob("*")) == before
    return found


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_no_two_members_of_one_name_are_taken_for_one_another(tmp_path):
    names = ("s/1.png", "s/1.png", "s/1.png (2)", "2.png", "s/1.png")
    path = archive(inside(tmp_path), *[(name, b"%d" % n) for n, name in enumerate(names)])
    found = read(path)
    assert [label for label, _ in found] == [*names[:1], "s/1.png (3)", *names[2:4], "s/1.png (4)"]
    assert [data for _, data in found] == [b"0", b"1", b"2", b"3", b"4"] and read(path) == found


def link(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return member


def claims(path: Path, size: int) -> Path:
    """The same archive, whose only member says in both headers that it has ``size`` bytes."""
    data = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(mark) + at, size)
    path.write_bytes(data)
    return path


def test_a_name_is_a_label_and_a_link_is_its_text(tmp_path: Path) -> None:
    names = ["../../up.png", "/etc/passwd", "C:\\windows\\x.png", "a/../../b.png", "//host/x.png"]
    path = archive(
        inside(tmp_path), *[(n, PICTURE) for n in names], (link("link.png"), b"/etc/passwd")
    )
    found = read(path)
    assert len(found) == 6
    assert [d for _, d in found[:5]] == [PICTURE] * 5
    assert found[5] == ("link.png", b"/etc/passwd")  # what the link says, not what it leads to


def test_a_nul_in_a_name_ends_it(tmp_path: Path) -> None:
    path = archive(inside(tmp_path), ("a.pngX/../../evil", PICTURE))
    path.write_bytes(path.read_bytes().replace(b"a.pngX", b"a.png\0"))
    [(label, data)] = read(path)
    assert label == "a.png"
    assert data == PICTURE


def test_an_archive_in_an_archive_is_no_picture(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as file:
        file.writestr("a.png", PICTURE)
    found = read(archive(inside(tmp_path), ("inner.zip", inner.getvalue())))
    assert found == [("inner.zip", inner.getvalue())]  # the decode boundary refuses it as a ZIP


def test_ten_thousand_members_are_listed_within_a_second(tmp_path: Path) -> None:
    path = archive(inside(tmp_path), *[(f"{n:05d}.png", b"") for n in range(10_000)])

    def listed() -> None:
        source = Archive(path)
        with source.opened():
            assert len([source.label(n) for n in source.names()]) == 10_000

    assert quickest(listed) < 1.0


def test_a_thousand_to_one_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = bytes(LIMITS.max_bytes + 1)
    path = archive(inside(tmp_path), ("bomb.png", bomb))
    assert path.stat().st_size < len(bomb) / 900
    [(_, reason)] = read(path)
    assert "larger" in str(reason)
    assert quickest(lambda: read(path)) < 0.1


def test_a_member_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    bomb = archive(inside(tmp_path), ("bomb.png", bytes(LIMITS.max_bytes + 1)))
    path = claims(bomb, 1000)
    [(_, reason)] = read(path)
    assert "damaged" in str(reason)
    assert quickest(lambda: read(path)) < 1.0


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"PK\x05\x06" + bytes(17), bytes(100)])
def test_what_is_no_archive_is_said_so(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "in.zip"
    path.write_bytes(data)
    with pytest.raises(BatchFailed, match="damaged"):
        Archive(path)


def test_a_damaged_member_is_refused_whatever_packed_it(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        path = tmp_path / f"{method}.zip"
        with zipfile.ZipFile(path, "w", method) as out:
            out.writestr("a", encoded(phantom(), "PNG"))
        data = bytearray(path.read_bytes())
        data[31:51] = b"\xff" * 20  # behind the header, the first bytes of what was packed
        path.write_bytes(data)
        [name] = Archive(path).names()
        with pytest.raises(ImageRejected, match="damaged or encrypted"):
            Archive(path).read(name, ImageLimits())
