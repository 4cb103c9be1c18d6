"""Files are known by their bytes; zips are read safely; nothing is written beside the source."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib

import pytest

from cardiometa.errors import ImageError
from cardiometa.imaging.archive import DamagedFileError, ImageFile, open_files, sniff_bytes
from cardiometa.imaging.discovery import sniff
from tests.kit.tiny_dicom import Shape, encode, files, image, put, read, tiny, which


def _nifti_head() -> bytes:
    head = bytearray(352)
    head[:4] = (348).to_bytes(4, "little")
    head[344:348] = b"n+1\0"
    return bytes(head)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty"),
        (b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0", "dicom"),
        (b"\x08\0\x05\0CS\x0a\0ISO_IR 100", "dicom"),
        (b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100", "dicom"),
        (b"\0\x08\0\x05CS\0\x0aISO_IR 100", "dicom"),
        (b"\2\0\0\0UL\4\0\xb6\0\0\0", "dicom"),
        (_nifti_head(), "nifti"),
        (gzip.compress(_nifti_head(), mtime=0), "nifti"),
        (gzip.compress(b"a table, not an image" * 40, mtime=0), "other"),
        (b"\x1f\x8bnot gzip", "other"),
        (b"PK\3\4rest", "zip"),
        (b"PK\5\6" + b"\0" * 18, "zip"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "image"),
        (b"\x89PNG\r\n\x1a\n", "image"),
        ("Participant; größe\n".encode(), "text"),
        ("Größe\n".encode("latin-1") * 20, "text"),
        (b"version https://git-lfs.github.com/spec/v1\n", "text"),
        (bytes(range(256)) * 4, "other"),
    ],
)
def test_kind_is_told_by_bytes_whatever_the_name(tmp_path, data, kind):
    path = tmp_path / "image.dcm"
    path.write_bytes(data)
    assert sniff_bytes(data[:4096], len(data)) == kind
    assert sniff(path) == kind


def test_what_is_not_there_is_other(tmp_path):
    assert sniff(tmp_path / "absent") == "other"
    assert sniff(tmp_path) == "other"


def _zip(contents: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return stream.getvalue()


def test_zip_gives_the_same_cine_as_its_folder(tmp_path):
    contents = files(tiny())
    folder = put(tmp_path / "folder", contents)
    packed = put(tmp_path, {"scan": _zip({f"a/b/{n}": d for n, d in contents.items()})}) / "scan"
    a, b = read(folder), read(packed)
    assert a.source.sha256 == b.source.sha256
    assert (a.pixels == b.pixels).all()


def test_a_folder_with_one_zip_is_read_as_that_zip(tmp_path):
    put(tmp_path, {"export.zip": _zip(files(tiny())), "note.txt": b"hello"})
    assert read(tmp_path).pixels.shape == (20, 6, 12, 10)


def test_names_that_point_outside_are_left_out_and_nothing_is_written(tmp_path):
    contents = {f"x/{n}": d for n, d in files(tiny()).items()}
    extra = encode(image(0, 0, Shape()))
    for name in ("/etc/evil.dcm", "../../evil.dcm", "a/../../evil.dcm", "C:/evil.dcm"):
        contents[name] = extra
    folder = put(tmp_path / "deep" / "down", {"scan.zip": _zip(contents)})
    before = sorted(tmp_path.rglob("*"))
    cine = read(folder / "scan.zip")
    assert {item.code: item.count for item in cine.source.left_out} == {"unsafe-name": 4}
    assert sorted(tmp_path.rglob("*")) == before


def test_zip_of_zips_says_so(tmp_path):
    put(tmp_path, {"outer.zip": _zip({"a.zip": _zip(files(tiny())), "b.zip": _zip({})})})
    with pytest.raises(ImageError, match=r"archives inside an archive.*\(2\)") as caught:
        read(tmp_path / "outer.zip")
    assert caught.value.code == "nested-archive"


@pytest.mark.parametrize("keep", [30, 3000, -30])
def test_a_cut_zip_is_refused(tmp_path, keep):
    put(tmp_path, {"scan.zip": _zip(files(tiny()))[:keep]})
    with pytest.raises(ImageError, match="damaged or cut off") as caught:
        read(tmp_path / "scan.zip")
    assert caught.value.code == "damaged"


def test_a_member_with_flipped_bytes_is_missing_not_fatal(tmp_path):
    contents = files(tiny())
    data = bytearray(_zip(contents, zipfile.ZIP_STORED))
    # The pixel bytes of the 31st image: its checksum no longer fits.
    place = data.find(contents["00030"][-200:])
    data[place + 50] ^= 0xFF
    put(tmp_path, {"scan.zip": bytes(data)})
    cine = read(tmp_path / "scan.zip")
    assert {i.code: i.count for i in cine.source.left_out} == {"damaged": 1}
    assert {flag.code for flag in cine.source.flags} == {"missing-frames", "lost-images"}


def test_encrypted_members_are_named(tmp_path):
    data = bytearray(_zip(files(tiny())))
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = data.find(mark)
        while place >= 0:
            data[place + offset] |= 1
            place = data.find(mark, place + 4)
    put(tmp_path, {"scan.zip": bytes(data)})
    with pytest.raises(ImageError, match="password") as caught:
        read(tmp_path / "scan.zip")
    assert caught.value.code == "encrypted"


def test_a_member_larger_than_any_scan_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.setattr("cardiometa.imaging.archive.MAX_FILE_BYTES", 500)
    put(tmp_path, {"scan.zip": _zip(files(tiny()))})
    with pytest.raises(ImageError, match="claim a size") as caught:
        read(tmp_path / "scan.zip")
    assert caught.value.code == "oversized"


def test_a_zip_is_bounded_in_sum(tmp_path, monkeypatch):
    monkeypatch.setattr("cardiometa.imaging.archive.MAX_TOTAL_BYTES", 20_000)
    put(tmp_path, {"scan.zip": _zip(files(tiny()))})
    with pytest.raises(ImageError, match="claim a size"):
        read(tmp_path / "scan.zip")


def test_a_member_that_holds_more_than_it_says_is_damaged(tmp_path):
    stored = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = stored.compress(b"\0" * 10_000_000) + stored.flush()
    data = bytearray(_zip({"bomb": b"\0" * 1000}))
    old = zlib.compressobj(-1, zlib.DEFLATED, -15)
    small = old.compress(b"\0" * 1000) + old.flush()
    place = data.find(small)
    data[place : place + len(small)] = bomb
    path = put(tmp_path, {"scan.zip": bytes(data)}) / "scan.zip"
    with pytest.raises(ImageError):
        read(path)


def test_reading_a_file_that_vanished_is_an_error_of_ours(tmp_path):
    with open_files(tmp_path) as found:
        gone = ImageFile("x", "", 10, path=tmp_path / "x")
        with pytest.raises(DamagedFileError):
            found.read(gone)
        with pytest.raises(DamagedFileError), found.open(gone):
            pass


def test_links_to_content_that_is_not_there_are_pointers(tmp_path):
    (tmp_path / "scan.dcm").symlink_to(tmp_path / "objects" / "absent")
    (tmp_path / "lfs.dcm").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0")
    with pytest.raises(ImageError, match=r"never fetched.*\(2\)") as caught:
        read(tmp_path)
    assert caught.value.code == "pointer-file"


def test_linked_files_are_read(tmp_path):
    real = put(tmp_path / "objects", files(tiny()))
    links = tmp_path / "links"
    links.mkdir()
    for path in real.iterdir():
        (links / path.name).symlink_to(path)
    assert which(read(links)) == which(read(real))
