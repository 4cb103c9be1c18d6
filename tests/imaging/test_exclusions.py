"""Each refusal names its reason in the field's words, and a way out that exists."""

from __future__ import annotations

from copy import deepcopy

import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from cardiometa.errors import ImageError
from cardiometa.imaging.exclusions import REASONS, refusal
from cardiometa.imaging.read import ReadOptions, read_cine
from cardiometa.records import ScanSource
from tests.kit import tiny_dicom as kit

# ------------------------------------------------------------------ files of other programs

_MHA = b"ObjectType = Image\nNDims = 4\nBinaryData = True\nElementDataFile = LOCAL\n" + bytes(400)
_MHD = b"NDims = 3\nDimSize = 9 9 9\nElementDataFile = heart.raw\n"
_NRRD = b"NRRD0005\ntype: short\ndimension: 4\nencoding: gzip\n\n\x1f\x8b" + bytes(range(256))
_ANALYZE = (348).to_bytes(4, "little") + bytes(344)


@pytest.mark.parametrize(
    ("name", "data", "code", "words"),
    [
        ("heart.mha", _MHA, "metaimage-file", ["MetaImage", "WriteImage(ReadImage", "3D Slicer"]),
        ("heart.mhd", _MHD, "metaimage-file", ["MetaImage", "4-D file"]),
        ("0001", b"# by ITK\n" + _MHD, "metaimage-file", ["MetaImage"]),
        ("heart.MHA", bytes(range(255, 0, -1)), "metaimage-file", ["MetaImage"]),
        ("heart.nrrd", _NRRD, "nrrd-file", ["NRRD", "WriteImage(ReadImage", "3D Slicer"]),
        ("heart.nhdr", b"NRRD0004\ndata file: heart.raw\n", "nrrd-file", ["NRRD"]),
        ("0001", _NRRD, "nrrd-file", ["NRRD"]),
        ("heart.hdr", _ANALYZE, "analyze-file", ["Analyze", "nibabel", "orientation"]),
        ("heart", _ANALYZE[::-1][-4:] + bytes(344), "analyze-file", ["Analyze"]),
        ("letter", b"%PDF-1.7\n" + bytes(range(256)), "pdf-file", ["PDF", "Export the images"]),
        ("cine.avi", b"RIFF\0\0\0\0AVI LIST" + bytes(99), "video-file", ["MP4", "pixel spacing"]),
        ("cine", b"\0\0\0\x18ftypmp42" + bytes(99), "video-file", ["Export DICOM"]),
        ("cine.png", b"\x89PNG\r\n" + bytes(99), "picture-file", ["pictures", "Export DICOM"]),
    ],
)
def test_formats_that_are_not_read_are_named(tmp_path, name, data, code, words):
    with pytest.raises(ImageError) as caught:
        kit.read(kit.put(tmp_path, {name: data}))
    assert caught.value.code == code
    for word in words:
        assert word in f"{caught.value.message} {caught.value.hint}"


def test_a_pair_of_another_format_is_told_how_to_convert(tmp_path):
    put = kit.put(tmp_path, {"a_ED.mha": _MHA, "a_ES.mha": _MHA})
    pair = ScanSource(kind="ed-es", paths=(put / "a_ED.mha", put / "a_ES.mha"))
    with pytest.raises(ImageError, match="not a NIfTI file") as caught:
        read_cine(pair, ReadOptions())
    assert "WriteImage(ReadImage" in caught.value.hint


def test_metaimage_next_to_dicom_is_listed(tmp_path, images):
    files = {**kit.files(images), "heart.mha": _MHA, "heart.nrrd": _NRRD, "heart.hdr": _ANALYZE}
    cine = kit.read(kit.put(tmp_path, files))
    assert kit.left(cine) == {"metaimage-file": 1, "nrrd-file": 1, "analyze-file": 1}
    assert kit.codes(cine) == {}


# ------------------------------------------------------------------ DICOM


def _compressed(ds: Dataset, syntax: str) -> bytes:
    ds.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(60)])
    ds["PixelData"].VR = "OB"
    known = syntax.replace("110", "100")  # JPEG XL is younger than the writer
    data = kit.encode(ds, UID(f"1.2.840.10008.1.2.4.{known}"))
    return data.replace(b".1.2.4." + known.encode(), b".1.2.4." + syntax.encode())


@pytest.mark.parametrize(
    ("syntax", "code", "words"),
    [
        ("201", "htj2k", ["HTJ2K", ".201 to .203", "pylibjpeg-openjpeg", "decompress()"]),
        ("203", "htj2k", ["HTJ2K"]),
        ("110", "jpeg-xl", ["JPEG XL", "explicit VR little endian"]),
        ("204", "pixels-elsewhere", ["JPIP", "explicit VR little endian"]),
        ("94", "pixels-elsewhere", ["JPIP"]),
        ("102.1", "video", ["H.264", "Export the cine as MR images"]),
        ("107", "video", ["H.265"]),
    ],
)
def test_transfer_syntaxes_that_are_not_read_are_named(tmp_path, few_images, syntax, code, words):
    contents = {f"{n}": _compressed(ds, syntax) for n, ds in enumerate(few_images.values())}
    with pytest.raises(ImageError) as caught:
        kit.read(kit.put(tmp_path, contents))
    assert caught.value.code == code
    assert "(32)" in caught.value.message
    for word in words:
        assert word in f"{caught.value.message} {caught.value.hint}"


def test_slices_that_cannot_be_decoded_are_lost_from_their_stack(tmp_path, images):
    contents = {
        f"{z}.{t}": _compressed(ds, "202") if z in (0, 5) else kit.encode(ds)
        for (z, t), ds in images.items()
    }
    cine = kit.read(kit.put(tmp_path, contents))
    assert cine.pixels.shape[:2] == (20, 4)
    assert kit.codes(cine) == {"lost-images": "review"}
    assert "40 images" in cine.source.flags[0].sentence
    assert kit.left(cine) == {"htj2k": 40}


_NO_PIXELS = {
    "88.22": ("SR", "report", "structured reports"),
    "88.59": ("KO", "report", "structured reports"),
    "11.1": ("PR", "presentation-state", "images that they refer to"),
    "104.1": ("DOC", "document", "PDF"),
    "104.3": ("M3D", "document", "STL"),
    "66": ("MR", "raw-data", "raw data"),
    "4.2": ("MR", "raw-data", "spectroscopy"),
    "66.4": ("SEG", "contours", "segmentations"),
    "481.3": ("RTSTRUCT", "contours", "RT structure sets"),
    "99.1": ("MR", "not-an-image", "without pixels"),
}


def _without_pixels(ds: Dataset, kind: str) -> Dataset:
    for keyword in ("Rows", "Columns", "PixelData", "PixelSpacing"):
        delattr(ds, keyword)
    ds.SOPClassUID = f"1.2.840.10008.5.1.4.1.1.{kind}"
    ds.Modality = _NO_PIXELS[kind][0]
    return ds


@pytest.mark.parametrize("kind", _NO_PIXELS)
def test_objects_without_images_are_named_by_their_class(tmp_path, few_images, kind):
    _, code, words = _NO_PIXELS[kind]
    alone = _without_pixels(deepcopy(few_images[0, 0]), kind)
    alone.SOPInstanceUID = "2.25.6"
    with pytest.raises(ImageError) as caught:
        kit.read_images(tmp_path / "alone", [alone])
    assert caught.value.code == code
    assert words in f"{caught.value.message} {caught.value.hint}"
    assert "Export the images" in caught.value.hint
    cine = kit.read_images(tmp_path / "among", [*few_images.values(), alone])
    assert kit.left(cine) == {code: 1}


def _rgb(ds: Dataset) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData = bytes(ds.Rows * ds.Columns * 3)


def _captured(ds: Dataset) -> None:
    _rgb(ds)
    ds.SOPClassUID, ds.Modality = "1.2.840.10008.5.1.4.1.1.7.4", "OT"


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (_rgb, "not-grey", ["RGB", "MONOCHROME2"]),
        (_captured, "screenshot", ["secondary captures and screenshots", "ORIGINAL, PRIMARY"]),
        (
            lambda ds: setattr(ds, "ImageType", ["DERIVED", "SECONDARY", "SCREEN SAVE"]),
            "screenshot",
            ["screenshots"],
        ),
        (
            lambda ds: setattr(ds, "BurnedInAnnotation", "YES"),
            "burned-in",
            ["burned into the pixels", "BurnedInAnnotation NO"],
        ),
    ],
)
def test_images_that_are_not_measured_are_named(tmp_path, few_images, change, code, words):
    made = kit.each(few_images, lambda _z, _t, ds: change(ds))
    with pytest.raises(ImageError) as caught:
        kit.read_images(tmp_path, made)
    assert caught.value.code == code
    for word in words:
        assert word in f"{caught.value.message} {caught.value.hint}"


# ------------------------------------------------------------------ the table


def test_every_reason_is_written_to_be_counted_and_every_way_out_is_a_sentence():
    for code, (what, fix) in REASONS.items():
        assert not what.endswith("."), code
        assert not fix or (fix[0].isupper() and fix.endswith(".")), code


@pytest.mark.parametrize(
    ("counts", "code", "says"),
    [
        ({"htj2k": 120}, "htj2k", "decompress()"),
        ({"htj2k": 120, "text-file": 3}, "htj2k", "decompress()"),
        ({"htj2k": 120, "too-few-phases": 9}, "no-cine", "decompress()"),
        ({"htj2k": 50, "too-few-phases": 70}, "no-cine", "usual"),
        ({"empty-file": 2, "text-file": 1}, "no-cine", "again"),
        ({"text-file": 1}, "text-file", "usual"),
        ({"map": 0}, "no-cine", "usual"),
        ({}, "no-cine", "usual"),
    ],
)
def test_the_hint_is_of_what_most_images_are(counts, code, says):
    found, hint = refusal(counts, "no-cine", "usual")
    assert found == code
    assert says in hint
