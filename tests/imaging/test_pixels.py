"""Stored bytes become the right numbers, in every transfer syntax and representation."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from cardiometa.errors import ImageError
from tests.kit.tiny_dicom import (
    Shape,
    codes,
    each,
    encode,
    files,
    left,
    pixels,
    put,
    read,
    read_images,
    set_pixels,
    tiny,
)

SMALL = Shape(slices=4, phases=20)


def _want(function=lambda array: array) -> np.ndarray:
    return np.stack(
        [np.stack([function(pixels(z, t).astype(float)) for z in range(4)]) for t in range(20)]
    )


def _read(folder, change):
    return read_images(folder, each(tiny(SMALL), change)).pixels


def test_native_values_keep_their_place(tmp_path):
    got = _read(tmp_path, lambda _z, _t, _ds: None)
    assert got.dtype == np.float32
    assert np.array_equal(got, _want())


def test_slope_and_intercept_may_differ_by_slice(tmp_path):
    def change(z, _t, ds):
        ds.RescaleSlope, ds.RescaleIntercept = str(1 + z), str(-10 * z)

    got = _read(tmp_path, change)
    want = np.stack([_want()[:, z] * (1 + z) - 10 * z for z in range(4)], axis=1)
    assert np.allclose(got, want)


def test_monochrome_one_is_inverted(tmp_path):
    def change(z, t, ds):
        ds.PhotometricInterpretation = "MONOCHROME1"
        set_pixels(ds, 4095 - pixels(z, t))

    assert np.array_equal(_read(tmp_path, change), _want())


def test_signed_twelve_in_sixteen_with_rubbish_above(tmp_path):
    def change(z, t, ds):
        ds.PixelRepresentation = 1
        set_pixels(ds, ((pixels(z, t).astype(int) - 1500) & 0x0FFF) | 0xA000)

    assert np.array_equal(_read(tmp_path, change), _want(lambda a: a - 1500))


def test_values_in_the_upper_bits(tmp_path):
    def change(z, t, ds):
        ds.HighBit = 15
        set_pixels(ds, pixels(z, t) << 4)

    assert np.array_equal(_read(tmp_path, change), _want())


@pytest.mark.parametrize(
    ("vr", "padding"), [("SS", -2000), pytest.param("US", 63_536, id="as read of implicit VR")]
)
def test_padding_is_the_least_real_value(tmp_path, vr, padding):
    def change(z, t, ds):
        ds.PixelRepresentation, ds.BitsStored, ds.HighBit = 1, 16, 15
        ds.add_new(0x00280120, vr, padding)
        array = pixels(z, t).astype(np.int16)
        array[0, :] = -2000
        set_pixels(ds, array.view(np.uint16))

    got = _read(tmp_path, change)
    assert got.min() == pixels(0, 0).min()
    assert np.array_equal(got[:, :, 1:], _want()[:, :, 1:])


def _eight_bit(z, t, ds):
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData = (pixels(z, t) // 4).astype(np.uint8).tobytes()


def test_eight_bit_images(tmp_path):
    assert np.array_equal(_read(tmp_path, _eight_bit), _want(lambda a: a // 4))


def test_eight_bits_in_big_endian_words(tmp_path):
    def change(z, t, ds):
        _eight_bit(z, t, ds)
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()

    images = each(tiny(SMALL), change)
    put(tmp_path, {f"{k}": encode(ds, ExplicitVRBigEndian) for k, ds in enumerate(images.values())})
    assert np.array_equal(read(tmp_path).pixels, _want(lambda a: a // 4))


def _item(**values):
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return [item]


def test_an_enhanced_object_may_rescale_each_frame(tmp_path):
    images = tiny(SMALL)
    groups, data = [], b""
    for (z, t), ds in images.items():
        (group,) = _item(
            PixelValueTransformationSequence=_item(
                RescaleSlope=str(1 + z), RescaleIntercept=str(-t)
            ),
            PlanePositionSequence=_item(ImagePositionPatient=ds.ImagePositionPatient),
            PlaneOrientationSequence=_item(ImageOrientationPatient=ds.ImageOrientationPatient),
            PixelMeasuresSequence=_item(PixelSpacing=ds.PixelSpacing),
            CardiacSynchronizationSequence=_item(NominalCardiacTriggerDelayTime=40.0 * t),
        )
        groups.append(group)
        data += pixels(z, t).astype("<u2").tobytes()
    whole = images[0, 0]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(whole, keyword)
    whole.NumberOfFrames, whole.PerFrameFunctionalGroupsSequence = len(groups), groups
    whole.PixelData = data
    put(tmp_path, {"one": encode(whole)})
    cine = read(tmp_path)
    want = _want() * (1 + np.arange(4))[None, :, None, None] - np.arange(20)[:, None, None, None]
    assert cine.source.format == "dicom-enhanced"
    assert np.allclose(cine.pixels, want)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_native_syntaxes(tmp_path, syntax):
    images = tiny(SMALL)
    for (z, t), ds in images.items():
        if syntax == ExplicitVRBigEndian:
            ds.PixelData = pixels(z, t).astype(">u2").tobytes()
    put(tmp_path, {f"{k}": encode(ds, syntax) for k, ds in enumerate(images.values())})
    assert np.array_equal(read(tmp_path).pixels, _want())


# ------------------------------------------------------------------ hostile sizes


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"Rows": 60000, "Columns": 60000}, "oversized"),
        ({"Rows": 5000}, "oversized"),
        ({"NumberOfFrames": "2000000000"}, "oversized"),
        ({"NumberOfFrames": "9000", "Rows": 4000, "Columns": 4000}, "oversized"),
        ({"Rows": 13}, "damaged"),
        ({"Rows": 0}, "damaged"),
    ],
)
def test_sizes_are_checked_before_anything_is_allocated(tmp_path, change, code):
    def lie(_z, _t, ds):
        for keyword, value in change.items():
            setattr(ds, keyword, value)

    with pytest.raises(ImageError) as caught:
        read_images(tmp_path, each(tiny(SMALL), lie))
    assert caught.value.code == code


@pytest.mark.parametrize("keep", [140, 400, 900, -100, -1])
def test_truncated_files_are_counted_as_damaged(tmp_path, keep):
    contents = files(tiny(SMALL))
    contents["00013"] = contents["00013"][:keep]
    put(tmp_path, contents)
    cine = read(tmp_path)
    assert left(cine) == {"damaged": 1}
    assert codes(cine) == {"missing-frames": "review", "lost-images": "review"}


def test_all_truncated_is_one_clear_reason(tmp_path):
    put(tmp_path, {name: data[:-50] for name, data in files(tiny(SMALL)).items()})
    with pytest.raises(ImageError, match=r"damaged or cut off \(80\)") as caught:
        read(tmp_path)
    assert caught.value.code == "damaged"


def test_frames_without_a_place_of_their_own_are_refused(tmp_path):
    def change(z, _t, ds):
        ds.NumberOfFrames = 2
        ds.PixelData = ds.PixelData * 2

    with pytest.raises(ImageError) as caught:
        read_images(tmp_path, each(tiny(SMALL), change))
    assert caught.value.code == "multi-frame"


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("BitsStored", "99999999999"), ("HighBit", "99999999999"), ("BitsStored", "-3")],
)
def test_bits_beyond_those_allocated_fill_no_memory(tmp_path, keyword, value):
    def change(_z, _t, ds):
        ds.add_new(keyword, "LO", value)

    with pytest.raises(ImageError) as caught:
        read_images(tmp_path, each(tiny(SMALL), change))
    assert caught.value.code == "undecodable"


@pytest.mark.parametrize("slope", ["1e300", "-1e7", "1,5", "1e-300"])
def test_wild_rescaling_never_gives_infinite_pixels(tmp_path, slope):
    put(
        tmp_path,
        files(each(tiny(SMALL), lambda _z, _t, ds: ds.add_new("RescaleSlope", "LO", slope))),
    )
    if slope == "1e-300":
        assert np.isfinite(read(tmp_path).pixels).all()
    else:
        with pytest.raises(ImageError) as caught:
            read(tmp_path)
        assert caught.value.code == "undecodable"
