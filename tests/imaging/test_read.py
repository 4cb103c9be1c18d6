"""The whole reader: real hearts, garbage with one clear reason each, hostile bytes.

The dialects of scanners and anonymisers stand in ``test_dialects.py``.
"""

from __future__ import annotations

import gzip
import io
import zipfile
from contextlib import suppress
from functools import cache

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cardiometa.errors import ImageError
from cardiometa.imaging.discovery import find_scan_source
from cardiometa.imaging.read import ReadOptions, inspect_scan
from cardiometa.records import ScanSource
from tests.kit.data import shared_data
from tests.kit.tiny_dicom import Shape, codes, each, encode, files, image, left, put, read, tiny

# ------------------------------------------------------------------ real hearts


@pytest.mark.parametrize(
    ("case", "slices", "spacing", "distance"),
    [
        ("SCD0000101", 12, 1.367188, 10.0),
        ("SCD0000201", 13, 1.367188, 10.0),
        ("SCD0000301", 10, 1.2891, 8.0),
    ],
)
def test_sunnybrook(case, slices, spacing, distance):
    path = shared_data() / "sunnybrook" / f"{case}.zip"
    assert find_scan_source(path) == ScanSource(kind="images", paths=(path,))
    cine = read(path)
    assert cine.pixels.shape == (20, slices, 256, 256)
    assert cine.spacing_mm == pytest.approx((spacing, spacing))
    assert cine.slice_distance_mm == pytest.approx(distance, abs=0.01)
    source = cine.source
    assert (source.vendor, source.sequence, source.field_strength_t) == ("GE", "bssfp", 1.5)
    assert source.time_key == "TriggerTime"
    assert source.files == 20 * slices
    assert set(left(cine)) == {"text-file"}
    assert codes(cine) == {}


# ------------------------------------------------------------------ garbage


def _zip(contents: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return stream.getvalue()


def _ct() -> dict[str, bytes]:
    return files(each(tiny(), lambda _z, _t, ds: setattr(ds, "Modality", "CT")))


def _report() -> bytes:
    ds = image(0, 0, Shape())
    ds.SOPClassUID, ds.Modality = "1.2.840.10008.5.1.4.1.1.88.11", "SR"
    for keyword in ("Rows", "Columns", "PixelData", "PixelSpacing"):
        delattr(ds, keyword)
    return encode(ds)


GARBAGE = {
    "empty folder": (dict, "no-images"),
    "empty files": (lambda: {"a.dcm": b"", "b": b""}, "empty-file"),
    "text named .dcm": (lambda: {"a.dcm": b"not an image\n"}, "text-file"),
    "truncated DICOM": (lambda: {"a.dcm": encode(image(0, 0, Shape()))[:-60]}, "damaged"),
    "DICOM cut in its header": (lambda: {"a.dcm": encode(image(0, 0, Shape()))[:300]}, "damaged"),
    "DICOM of noise": (lambda: {"a": b"\0" * 128 + b"DICM" + bytes(range(256)) * 9}, "damaged"),
    "CT": (_ct, "not-mr"),
    "report": (lambda: {"a.dcm": _report()}, "report"),
    "long axis": (lambda: files(tiny(Shape(slices=1))), "too-few-positions"),
    "JPEG": (lambda: {"a.dcm": b"\xff\xd8\xff\xe0" + b"\0" * 400}, "picture-file"),
    "3-D NIfTI": (
        lambda: {"a.nii.gz": gzip.compress(nib.Nifti1Image(np.zeros((9, 9, 9)), None).to_bytes())},
        "not-a-cine",
    ),
    "zip of zips": (lambda: {"a.zip": _zip({"b.zip": _zip({"c": b"d"})})}, "nested-archive"),
    "empty zip": (lambda: {"a.zip": _zip({})}, "no-images"),
    "pointer": (lambda: {"a.dcm": b"version https://git-lfs.github.com/spec/v1\n"}, "pointer-file"),
    "other": (lambda: {"a": bytes(range(255, 0, -1)) * 20}, "other-file"),
}


@pytest.mark.parametrize("name", sorted(GARBAGE))
def test_garbage_gives_one_clear_reason(tmp_path, capfd, name):
    contents, code = GARBAGE[name]
    put(tmp_path, contents())
    with pytest.raises(ImageError) as caught:
        read(tmp_path)
    assert caught.value.code == code
    assert caught.value.exit_code == 3
    assert len(caught.value.message.splitlines()) == 1
    assert caught.value.hint
    with pytest.raises(ImageError) as caught:
        inspect_scan(ScanSource(kind="images", paths=(tmp_path,)), ReadOptions())
    assert caught.value.code == code
    assert capfd.readouterr() == ("", "")


def test_mixed_garbage_around_a_cine_is_counted_and_left_out(tmp_path):
    put(tmp_path, files(tiny()))
    for number, (contents, _) in enumerate(GARBAGE.values()):
        put(tmp_path / f"g{number}", contents())
    cine = read(tmp_path)
    assert cine.pixels.shape == (20, 6, 12, 10)
    assert codes(cine) == {}
    counts = left(cine)
    assert counts["not-mr"] == 120
    assert counts["empty-file"] == 2
    assert counts["damaged"] == 3
    assert counts["archive-beside-images"] == 2
    assert counts["nifti-beside-dicom"] == 1


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(ImageError, match="were not found") as caught:
        read(tmp_path / "jane_doe_1952")
    assert "jane" not in str(caught.value)


# ------------------------------------------------------------------ hostile bytes


@cache
def _base() -> dict[str, bytes]:
    return files(tiny(Shape(slices=4, phases=8)))


def _read_or_refuse(folder) -> None:
    """Any other exception than ImageError fails the test."""
    with suppress(ImageError):
        cine = read(folder)
        assert np.isfinite(cine.pixels).all()
        assert np.isfinite(cine.affine).all()
        assert cine.slice_weights_mm.min() > 0
        assert cine.source.rr_ms is None or 250 <= cine.source.rr_ms <= 2500


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.001, 0.01, 0.2]))
def test_flipped_bytes_never_end_in_a_traceback(tmp_path_factory, seed, share):
    rng = np.random.default_rng(seed)
    contents = {}
    for name, data in _base().items():
        raw = np.frombuffer(data, dtype=np.uint8).copy()
        if rng.random() < 0.5:
            hit = rng.random(len(raw)) < share
            raw[hit] = rng.integers(0, 256, int(hit.sum()))
        contents[name] = (
            raw[: rng.integers(1, len(raw) + 1)].tobytes() if rng.random() < 0.1 else raw.tobytes()
        )
    folder = put(tmp_path_factory.mktemp("fuzz"), contents)
    _read_or_refuse(folder)


_ODD = st.one_of(
    st.sampled_from(
        ["", "0", "-1", "1e300", "nan", "inf", "1,5", "\\", "1\\2\\3", "A" * 40, "99999999999"]
    ),
    st.integers(-(10**6), 10**6).map(str),
)


@settings(max_examples=20, deadline=None)
@given(
    keyword=st.sampled_from(
        [
            "TriggerTime",
            "NominalInterval",
            "HeartRate",
            "InstanceNumber",
            "AcquisitionTime",
            "SliceThickness",
            "ImagePositionPatient",
            "ImageOrientationPatient",
            "PixelSpacing",
            "RescaleSlope",
            "RescaleIntercept",
            "MagneticFieldStrength",
            "CardiacNumberOfImages",
            "SeriesNumber",
            "AcquisitionNumber",
            "TemporalPositionIdentifier",
            "SpacingBetweenSlices",
            "AcquisitionDate",
        ]
    ),
    value=_ODD,
    share=st.sampled_from([0.05, 1.0]),
    seed=st.integers(0, 1000),
)
def test_odd_values_never_end_in_a_traceback(tmp_path_factory, keyword, value, share, seed):
    rng = np.random.default_rng(seed)

    def change(_z, _t, ds):
        if rng.random() < share:
            ds.add_new(keyword, "LO", value)

    folder = put(
        tmp_path_factory.mktemp("odd"), files(each(tiny(Shape(slices=4, phases=8)), change))
    )
    _read_or_refuse(folder)
