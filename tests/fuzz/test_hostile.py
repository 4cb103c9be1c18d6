"""Files made to harm: sizes that lie, bombs, loops, deep nesting, names that point elsewhere."""

from __future__ import annotations

import csv
import gzip
import io
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cardiometa.cohort.load import load_cohort
from cardiometa.errors import CohortError, ImageError, InputError
from cardiometa.files import inside
from cardiometa.imaging.discovery import find_scan_source, header_identity, source_state
from cardiometa.imaging.read import ReadOptions, inspect_scan, read_cine
from cardiometa.reading.label_file import LabelFileError, ScanGrid, read_labels
from cardiometa.records import ScanSource
from tests.fuzz.images import small_cine
from tests.kit import dialects
from tests.kit.cohorts import cohort_folder
from tests.kit.tiny_dicom import Shape, each, encode, files, image, put, read, tiny

DATA = Path(__file__).parent / "data"
MIB = 1024**2
SMALL = Shape(slices=4, phases=12)


def refused(path: Path, most_mib: int = 40) -> ImageError:
    """The refusal of a source, which must come without much memory."""
    source = ScanSource(kind="images", paths=(path,))
    tracemalloc.start()
    try:
        with pytest.raises(ImageError) as from_headers:
            inspect_scan(source, ReadOptions())
        with pytest.raises(ImageError) as caught:
            read_cine(source, ReadOptions())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most_mib * MIB, f"{peak / MIB:.0f} MiB were taken"
    assert from_headers.value.code == caught.value.code
    assert caught.value.message
    return caught.value


# ------------------------------------------------------------------ sizes that lie


@pytest.mark.parametrize(
    "change",
    [
        lambda ds: (setattr(ds, "Rows", 60_000), setattr(ds, "Columns", 60_000)),
        lambda ds: setattr(ds, "NumberOfFrames", "1000000000"),
        lambda ds: setattr(ds, "NumberOfFrames", "9" * 12),
        lambda ds: (setattr(ds, "Rows", 4096), setattr(ds, "Columns", 4096)),
        lambda ds: setattr(ds, "BitsAllocated", 65_535),
        lambda ds: setattr(ds, "SamplesPerPixel", 60_000),
    ],
    ids=["60000x60000", "1e9 frames", "1e12 frames", "4096x4096", "65535 bits", "60000 samples"],
)
def test_dicom_headers_that_claim_too_much_are_refused(tmp_path: Path, change: Callable) -> None:
    put(tmp_path, files(each(tiny(SMALL), lambda _z, _t, ds: change(ds))))
    assert refused(tmp_path).code in ("oversized", "damaged")


def nifti(shape: tuple[int, ...], held: int) -> bytes:
    """A header that claims a shape, and ``held`` bytes behind it."""
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.int16)
    header["pixdim"][1:5] = (1.5, 1.5, 8.0, 40.0)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    return header.binaryblock + b"\0" * 4 + b"\0" * held


@pytest.mark.parametrize("shape", [(30_000, 30_000, 10, 20), (200, 200, 10, 30_000), (512,) * 4])
@pytest.mark.parametrize("packed", [False, True])
def test_nifti_headers_that_claim_too_much_are_refused(
    tmp_path: Path, shape: tuple[int, ...], packed: bool
) -> None:
    data = nifti(shape, 5000)
    path = tmp_path / "cine.nii.gz"
    path.write_bytes(gzip.compress(data) if packed else data)
    assert refused(path).code in ("oversized", "damaged")


def test_a_nifti_as_long_as_its_header_says_is_asked_for_before_it_is_read(tmp_path: Path) -> None:
    """A size that a cine may have, in a file that does not hold it."""
    path = tmp_path / "cine.nii"
    path.write_bytes(nifti((500, 500, 20, 60), 5000))
    assert refused(path).code == "damaged"


def test_a_compressed_nifti_that_never_ends_is_refused(tmp_path: Path) -> None:
    """A small cine with 150 MiB of zeros behind it, 150 KiB on disk."""
    path = tmp_path / "cine.nii.gz"
    path.write_bytes(gzip.compress(nifti((12, 10, 6, 12), 150 * MIB), 9))
    assert path.stat().st_size < MIB
    source = ScanSource(kind="images", paths=(path,))
    tracemalloc.start()
    with pytest.raises(ImageError) as caught:
        read_cine(source, ReadOptions())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.code == "oversized"
    assert peak < 60 * MIB


def test_a_mask_that_claims_more_than_it_holds_is_refused() -> None:
    grid = ScanGrid(shape=(2, 6, 10, 12), affine=np.eye(4))
    tracemalloc.start()
    with pytest.raises(LabelFileError, match="cut off"):
        read_labels(nifti((8000, 8000, 6, 2), 100), grid)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * MIB


def test_an_unknown_unit_in_a_nifti_is_an_unknown_unit(tmp_path: Path) -> None:
    data = bytearray(nifti((12, 10, 6, 12), 12 * 10 * 6 * 12 * 2))
    data[123] = 0b111
    path = tmp_path / "cine.nii"
    path.write_bytes(data)
    assert read(path).pixels.shape == (12, 6, 10, 12)


def test_a_deflated_file_that_inflates_without_end_is_not_inflated(tmp_path: Path) -> None:
    """200 KiB on disk; the parser would hold all that comes out of it."""
    whole = encode(image(0, 0, Shape()), DeflatedExplicitVRLittleEndian)
    start = whole.find(b"1.2.840.10008.1.2.1.99") - 8
    meta = encode(image(0, 0, Shape()))
    body = meta[meta.find(b"\x08\x00\x16\x00") :]
    packer = zlib.compressobj(9, wbits=-15)
    # An unknown element of 200 MiB before the pixels.
    head = body[: body.find(b"\xe0\x7f\x10\x00")]
    data = packer.compress(head + b"\x29\x00\x10\x10OB\x00\x00" + struct.pack("<I", 200 * MIB))
    for _ in range(200):
        data += packer.compress(bytes(MIB))
    data += packer.flush()
    assert len(data) < MIB
    end = start + 8 + 22
    for _ in range(64):  # the meta header ends where group 2 does
        if whole[end : end + 2] != b"\x02\x00":
            break
        end += 8 + int.from_bytes(whole[end + 6 : end + 8], "little")
    path = tmp_path / "deflated.dcm"
    path.write_bytes(whole[:end] + data)
    assert refused(path).code == "oversized"


def test_ordinary_deflated_files_are_read(tmp_path: Path) -> None:
    images = {
        str(n): encode(ds, DeflatedExplicitVRLittleEndian)
        for n, ds in enumerate(tiny(SMALL).values())
    }
    assert read(put(tmp_path, images)).pixels.shape[:2] == (12, 4)


# ------------------------------------------------------------------ zips


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method, compresslevel=9) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def test_a_bomb_in_a_zip_is_not_opened(tmp_path: Path) -> None:
    """One member of 100 MiB that shrinks to a thousandth, with the head of a DICOM file."""
    bomb = encode(image(0, 0, Shape())) + b"\0" * (100 * MIB)
    path = tmp_path / "bomb.zip"
    path.write_bytes(zipped({"a.dcm": bomb}))
    del bomb
    assert refused(path).code == "oversized"


def test_archives_in_an_archive_are_not_opened(tmp_path: Path) -> None:
    inner = zipped({"a.dcm": encode(image(0, 0, Shape()))})
    for _ in range(5):
        inner = zipped({"inner.zip": inner})
    path = tmp_path / "nested.zip"
    path.write_bytes(inner)
    assert refused(path).code == "nested-archive"


def test_a_zip_that_claims_too_much_in_all_is_cut(tmp_path: Path) -> None:
    """Thousands of entries that share the same bytes: what they add up to is bounded."""
    data = bytearray(zipped({f"{n:04d}.dcm": b"x" for n in range(40)}, zipfile.ZIP_STORED))
    place = data.find(b"PK\x01\x02")
    while place >= 0:
        struct.pack_into("<II", data, place + 20, 1_000_000_000, 1_000_000_000)
        place = data.find(b"PK\x01\x02", place + 4)
    path = tmp_path / "many.zip"
    path.write_bytes(data)
    refused(path)


@pytest.mark.parametrize(
    "name", ["../../evil.dcm", "/etc/evil.dcm", "C:\\evil.dcm", "a/../../evil.dcm", "\\\\host\\x"]
)
def test_names_that_point_out_of_a_zip_are_refused(tmp_path: Path, name: str) -> None:
    top = tmp_path / "in"
    top.mkdir()
    members = {f"s/{n}": d for n, d in files(tiny(SMALL)).items()}
    first = next(iter(members.values()))
    (top / "scan.zip").write_bytes(zipped({**members, name: first}))
    cine = read(top / "scan.zip")
    assert {left.code for left in cine.source.left_out} == {"unsafe-name"}
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["in", "scan.zip"]


def test_a_member_without_a_name_does_no_harm(tmp_path: Path) -> None:
    data = bytearray(zipped({"a": b"x" * 100}, zipfile.ZIP_STORED))
    for mark, place in ((b"PK\x01\x02", 28), (b"PK\x03\x04", 26)):
        struct.pack_into("<H", data, data.find(mark) + place, 0)
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    refused(path)


# ------------------------------------------------------------------ links


def test_loops_of_links_end(tmp_path: Path) -> None:
    top = put(tmp_path / "scan", files(tiny(SMALL)))
    (top / "self").symlink_to(top)
    (top / "up").symlink_to("..")
    (top / "a").symlink_to("b")
    (top / "b").symlink_to("a")
    source = find_scan_source(top)
    assert source is not None
    header_identity(source)
    assert source_state(source).files == 48
    cine = read_cine(source, ReadOptions())
    assert cine.pixels.shape[:2] == (12, 4)
    assert {left.code: left.count for left in cine.source.left_out} == {"pointer-file": 2}


def test_a_link_below_the_output_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "out" / "scans").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "scans" / "ALPHA").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="link to a place outside"):
        inside(tmp_path / "out" / "scans", "ALPHA", "P1", "baseline")
    (tmp_path / "out" / "scans" / "BETA").mkdir()
    assert inside(tmp_path / "out" / "scans", "BETA", "P1").parent.name == "BETA"


def test_the_output_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    assert inside(tmp_path / "out", "ALPHA").name == "ALPHA"


# ------------------------------------------------------------------ nesting


def nested(depth: int, tag: int) -> bytes:
    """A data set whose sequence holds itself ``depth`` times, then the image."""
    whole = encode(image(0, 0, Shape()))
    start = whole.find(b"\x28\x00\x02\x00US")
    group, element = tag >> 16, tag & 0xFFFF
    opening = struct.pack("<HH2sHI", group, element, b"SQ", 0, 0xFFFFFFFF)
    opening += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    closing = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return whole[:start] + opening * depth + closing * depth + whole[start:]


@pytest.mark.parametrize("depth", [50, 3000, 100_000])
@pytest.mark.parametrize("tag", [0x00189118, 0x00209999], ids=["a tag we read", "another tag"])
def test_deep_sequences_end_in_a_reason(tmp_path: Path, depth: int, tag: int) -> None:
    path = tmp_path / "deep.dcm"
    path.write_bytes(nested(depth, tag))
    assert refused(path).code in ("damaged", "too-few-phases", "too-few-positions", "not-a-cine")


# ------------------------------------------------------------------ names


@pytest.mark.parametrize(
    "name", ["../evil", "a/b", "/abs", "..", "x\\y", ".hidden", "NUL", "e\x1b"]
)
@pytest.mark.parametrize("what", ["participant", "visit", "trial"])
def test_ids_that_are_no_folder_names_are_problems(tmp_path: Path, what: str, name: str) -> None:
    toml = cohort_folder(tmp_path / "in", count=3)
    people, scans = (toml.parent / "ALPHA" / f"{n}.csv" for n in ("participants", "scans"))
    if what == "trial":
        quoted = name.replace("\\", "\\\\").replace("\x1b", "\\u001b")
        toml.write_text(toml.read_text().replace("[trials.ALPHA]", f'[trials."{quoted}"]'))
    else:
        old = "002" if what == "participant" else "baseline"
        for path in (people, scans):
            path.write_text(path.read_text().replace(old, name))
    with pytest.raises(CohortError) as caught:
        load_cohort(toml)
    assert any("folder" in str(p) or "id" in str(p) for p in caught.value.problems)


def test_a_header_names_no_file(tmp_path: Path) -> None:
    """Names of a header that look like paths stay where they are: nothing is called after them."""

    def change(_z, _t, ds) -> None:
        ds.PatientID = ds.PatientName = ds.StudyInstanceUID = "../../../evil"
        ds.SeriesDescription = "/tmp/evil"

    read(put(tmp_path / "in", files(each(tiny(SMALL), change))))
    assert not [p for p in tmp_path.rglob("*") if "evil" in p.name]
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


# ------------------------------------------------------------------ decoders that crash


def test_a_file_that_crashes_its_decoder_costs_its_own_scan(tmp_path: Path) -> None:
    """Two JPEG streams found by mutation; GDCM 3.0 aborts on one and dies of the other."""
    for person, name in (("P001", "jpeg-abort"), ("P002", "jpeg-segfault"), ("P003", "")):
        images = dialects.jpeg_lossless(small_cine())
        if name:
            images[next(iter(images))] = (DATA / f"{name}.dcm").read_bytes()
        put(tmp_path / "in" / "ALPHA" / person, images)
    out = tmp_path / "out"
    words = ["segment", str(tmp_path / "in"), "--out", str(out), "--quiet", "--workers", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "cardiometa", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 4, done.stderr
    assert "Traceback" not in done.stderr
    with (out / "exclusions.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["stage"] == "scan"]
    assert all(row["sentence"] for row in rows)
    codes = {row["participant_id"]: row["code"] for row in rows}
    # The sound one is read to its end: four slices are too short a ventricle.
    assert codes["P003"] == "lv-too-short"
    assert set(codes) == {"P001", "P002", "P003"}
