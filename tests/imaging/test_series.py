"""Which images are the short-axis cine: chosen by geometry and timing, others with a reason."""

from __future__ import annotations

import numpy as np
import pytest

from cardiometa.errors import ImageError
from tests.kit import tiny_dicom as kit


def _turned(images, row, column, centre=(0.0, 0.0, 0.0)):
    def turn(_z, _t, ds):
        kit.turned(ds, row, column)
        ds.ImagePositionPatient = [
            f"{v:.8f}" for v in np.array(centre) + 10.0 * _z * np.cross(row, column)
        ]

    return kit.each(images, turn)


def test_slices_stand_along_the_normal_and_phases_in_time(tmp_path):
    cine = kit.read_images(tmp_path, kit.tiny())
    assert kit.which(cine) == kit.EVERYTHING
    assert cine.spacing_mm == (3.0, 2.5)
    assert cine.slice_distance_mm == pytest.approx(10.0)
    assert cine.slice_weights_mm == pytest.approx([10.0] * 6)
    assert cine.frame_times_ms == pytest.approx(np.arange(20) * 40.0)
    assert cine.source.frame_ms == pytest.approx(40.0)
    assert cine.source.heart_rate_bpm == pytest.approx(75.0)
    assert (cine.source.vendor, cine.source.sequence) == ("Siemens", "bssfp")
    assert cine.source.time_key == "TriggerTime"
    assert cine.source.thickness_mm == 8.0
    assert cine.source.files == 120
    assert kit.codes(cine) == {}
    assert kit.left(cine) == {}


def test_the_affine_takes_voxels_to_ras(tmp_path):
    images = kit.tiny()
    cine = kit.read_images(tmp_path, images)
    for z in (0, 5):
        origin = np.array(images[z, 0].ImagePositionPatient, dtype=float)
        for x, y in ((0, 0), (9, 0), (0, 11), (4, 7)):
            lps = origin + kit.ROW * 2.5 * x + kit.COLUMN * 3.0 * y
            ras = cine.affine @ [x, y, z, 1]
            assert ras[:3] == pytest.approx(lps * [-1, -1, 1], abs=1e-4)


def test_file_names_and_order_do_not_matter(tmp_path):
    contents = kit.files(kit.tiny())
    a = kit.read(kit.put(tmp_path / "a", contents))
    names = np.random.default_rng(1).permutation(len(contents))
    shuffled = {f"{n:04d}": d for n, d in zip(names, contents.values(), strict=True)}
    b = kit.read(kit.put(tmp_path / "b", shuffled))
    assert a.source.sha256 == b.source.sha256
    assert np.array_equal(a.pixels, b.pixels)
    assert np.array_equal(a.affine, b.affine)


def test_the_hash_depends_on_every_used_file(tmp_path):
    contents = kit.files(kit.tiny())
    a = kit.read(kit.put(tmp_path / "a", contents))
    images = kit.tiny()
    images[3, 7].SeriesDescription = "changed"
    b = kit.read(kit.put(tmp_path / "b", kit.files(images)))
    assert a.source.sha256 != b.source.sha256


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("keyword", "value", "code"),
    [
        ("Modality", "CT", "not-mr"),
        ("ImageOrientationPatient", None, "no-orientation"),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], "no-orientation"),
        ("ImagePositionPatient", None, "no-position"),
        ("ImagePositionPatient", ["1", "2", "99999999"], "no-position"),
        ("PixelSpacing", None, "no-pixel-spacing"),
        ("PixelSpacing", [30, 30], "pixel-spacing"),
        ("PixelSpacing", [0, 1], "pixel-spacing"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "P", "ND"], "flow"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "PHASE CONTRAST M", "P", "PCA"], "flow"),
        ("SequenceName", "*fl2d1_v150in", "flow"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "R", "ND"], "not-magnitude"),
        ("ImageType", ["DERIVED", "PRIMARY", "M", "T1 MAP"], "map"),
        ("ImageType", ["DERIVED", "PRIMARY", "PERFUSION"], "perfusion"),
        ("ImageType", ["DERIVED", "PRIMARY", "PSIR"], "late-enhancement"),
        ("ImageType", ["DERIVED", "SECONDARY", "MPR"], "reformat"),
        ("ImageType", ["DERIVED", "SECONDARY", "SCREEN SAVE"], "screenshot"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.7", "screenshot"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.7.2", "screenshot"),
        ("BurnedInAnnotation", "YES", "burned-in"),
        ("SequenceName", "*fl2d_tag", "tagging"),
    ],
)
def test_what_cannot_be_a_cine_is_refused_with_its_reason(tmp_path, keyword, value, code):
    def change(_z, _t, ds):
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)

    with pytest.raises(ImageError) as caught:
        kit.read_images(tmp_path, kit.each(kit.tiny(), change))
    assert caught.value.code == code
    assert "(120)" in caught.value.message


def test_colour_is_refused(tmp_path):
    def change(_z, _t, ds):
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 3, "RGB"
        ds.PlanarConfiguration, ds.BitsAllocated, ds.BitsStored, ds.HighBit = 0, 8, 8, 7
        ds.PixelData = b"\0" * (ds.Rows * ds.Columns * 3)

    with pytest.raises(ImageError) as caught:
        kit.read_images(tmp_path, kit.each(kit.tiny(), change))
    assert caught.value.code == "not-grey"


@pytest.mark.parametrize(
    ("row", "column", "code"),
    [
        ((1, 0, 0), (0, 1, 0), "axial"),
        ((1, 0, 0), (0, 0, -1), "coronal"),
        ((0, 1, 0), (0, 0, -1), "sagittal"),
        ((np.cos(0.1), 0, np.sin(0.1)), (0, 1, 0), "axial"),
    ],
)
def test_stacks_along_the_body_are_told_by_their_normal(tmp_path, row, column, code):
    images = _turned(kit.tiny(), np.array(row, float), np.array(column, float))
    kit.put(tmp_path, kit.files(images))
    with pytest.raises(ImageError) as caught:
        kit.read(tmp_path)
    assert caught.value.code == code
    # The reader of the images may know better, and says so.
    cine = kit.read(tmp_path, series_regex="cine")
    assert kit.codes(cine)["plane-forced"] == "review"


def test_a_stack_across_the_usual_axis_is_reviewed(tmp_path):
    row = kit.NORMAL
    column = (kit.ROW + kit.COLUMN) / np.sqrt(2)
    cine = kit.read_images(tmp_path, _turned(kit.tiny(), row, column))
    assert kit.codes(cine) == {"unusual-plane": "review"}


@pytest.mark.parametrize("slices", [1, 2, 3])
def test_long_axis_views_have_too_few_places(tmp_path, slices):
    with pytest.raises(ImageError) as caught:
        kit.read_images(tmp_path, kit.tiny(kit.Shape(slices=slices)))
    assert caught.value.code == "too-few-positions"


def test_late_enhancement_has_too_few_phases(tmp_path):
    with pytest.raises(ImageError) as caught:
        kit.read_images(tmp_path, kit.tiny(kit.Shape(phases=1)))
    assert caught.value.code == "too-few-phases"


@pytest.mark.parametrize(
    ("phases", "expected"),
    [
        (7, None),
        (8, {"few-phases", "very-few-phases", "slow-frames"}),
        (12, {"few-phases", "slow-frames"}),
        (19, {"few-phases"}),
        (20, set()),
        (61, {"many-phases"}),
    ],
)
def test_few_phases_are_flagged(tmp_path, phases, expected):
    kit.put(tmp_path, kit.files(kit.tiny(kit.Shape(slices=4, phases=phases))))
    if expected is None:
        with pytest.raises(ImageError, match="fewer than 8 phases"):
            kit.read(tmp_path)
    else:
        assert set(kit.codes(kit.read(tmp_path))) == expected


def test_perfusion_lasts_longer_than_a_beat(tmp_path):
    def change(z, t, ds):
        ds.TriggerTime = "300"
        ds.TemporalPositionIdentifier = t + 1
        ds.AcquisitionTime = f"1000{t:02d}.{z:02d}"

    with pytest.raises(ImageError) as caught:
        kit.read_images(tmp_path, kit.each(kit.tiny(kit.Shape(phases=40)), change))
    assert caught.value.code == "time-span"


def test_real_time_runs_over_several_beats(tmp_path):
    def change(_z, t, ds):
        ds.TriggerTime = str(45.0 * t)

    with pytest.raises(ImageError) as caught:
        kit.read_images(tmp_path, kit.each(kit.tiny(kit.Shape(phases=60)), change))
    assert caught.value.code == "real-time"


def test_real_time_with_trigger_times_of_each_beat_is_no_repeat(tmp_path):
    def change(_z, t, ds):
        ds.TriggerTime = str(45.0 * (t % 18) + t // 18)

    with pytest.raises(ImageError) as caught:
        kit.read_images(tmp_path, kit.each(kit.tiny(kit.Shape(phases=72)), change))
    assert caught.value.code == "real-time"


def test_images_for_a_map_vary_another_time(tmp_path):
    def change(_z, t, ds):
        ds.InversionTime = str(100 + 90 * t)
        ds.TriggerTime = "500"

    with pytest.raises(ImageError) as caught:
        kit.read_images(tmp_path, kit.each(kit.tiny(kit.Shape(phases=11)), change))
    assert caught.value.code == "map"


def test_thin_three_dimensional_volumes_are_refused(tmp_path):
    def change(_z, _t, ds):
        ds.MRAcquisitionType, ds.SliceThickness = "3D", "2.5"

    with pytest.raises(ImageError) as caught:
        kit.read_images(tmp_path, kit.each(kit.tiny(kit.Shape(distance_mm=2.5)), change))
    assert caught.value.code == "thin-volume"


def test_no_text_of_a_header_is_repeated(tmp_path):
    def change(_z, _t, ds):
        ds.SeriesDescription = ds.ProtocolName = "Jane Doe cine"
        ds.Modality = "SECRET"

    with pytest.raises(ImageError) as caught:
        kit.read_images(tmp_path, kit.each(kit.tiny(), change))
    shown = str(caught.value) + repr(caught.value)
    for word in ("jane", "doe", "secret", "4711", "hospital", "1952"):
        assert word not in shown.casefold()


# ------------------------------------------------------------------ choosing


def test_a_bigger_axial_stack_does_not_win(tmp_path):
    axial = _turned(
        kit.tiny(kit.Shape(slices=12), series="2"), np.array([1, 0, 0.0]), np.array([0, 1, 0.0])
    )
    cine = kit.read_images(tmp_path, [*kit.tiny().values(), *axial.values()])
    assert kit.which(cine) == kit.EVERYTHING
    assert kit.left(cine) == {"axial": 240}
    assert "1 axial" in cine.source.series_reason


def test_the_larger_of_two_stacks_is_read_and_the_other_listed(tmp_path):
    row, column = kit.ROW, kit.COLUMN
    tilt = np.deg2rad(25)
    column = np.cos(tilt) * kit.COLUMN + np.sin(tilt) * kit.NORMAL
    other = _turned(kit.tiny(kit.Shape(slices=5), series="2"), row, column)
    cine = kit.read_images(tmp_path, [*other.values(), *kit.tiny().values()])
    assert kit.which(cine) == kit.EVERYTHING
    assert kit.left(cine) == {"other-stack": 100}


def test_equal_stacks_are_told_apart_by_description_and_overridden_by_regex(tmp_path):
    tilt = np.deg2rad(25)
    column = np.cos(tilt) * kit.COLUMN + np.sin(tilt) * kit.NORMAL
    short, other = kit.tiny(), _turned(kit.tiny(series="2", number=9), kit.ROW, column)
    kit.each(short, lambda _z, _t, ds: setattr(ds, "SeriesDescription", "cine_SA_stack"))
    kit.each(other, lambda _z, _t, ds: setattr(ds, "SeriesDescription", "cine 4ch stack"))
    kit.each(other, lambda _z, _t, ds: kit.set_pixels(ds, np.full((12, 10), 7)))
    kit.put(tmp_path, kit.files([*short.values(), *other.values()]))
    assert kit.which(kit.read(tmp_path)) == kit.EVERYTHING
    forced = kit.read(tmp_path, series_regex="4ch")
    assert forced.pixels.max() == 7
    assert kit.left(forced) == {"regex": 120}
    with pytest.raises(ImageError, match="does not match") as caught:
        kit.read(tmp_path, series_regex="nothing like this")
    assert caught.value.code == "regex"
    with pytest.raises(ImageError, match="not a regular expression"):
        kit.read(tmp_path, series_regex="(")


def test_two_examinations_in_one_folder_are_reviewed(tmp_path):
    def change(_z, _t, ds):
        ds.StudyInstanceUID = "2.25.10"
        ds.AcquisitionDate = "20210101"

    later = kit.each(kit.tiny(series="2"), change)
    cine = kit.read_images(tmp_path, [*kit.tiny().values(), *later.values()])
    assert kit.codes(cine) == {"several-studies": "review"}
    assert kit.left(cine) == {"other-stack": 120}


def test_a_study_uid_for_every_file_is_no_study(tmp_path):
    def change(z, t, ds):
        ds.StudyInstanceUID = f"2.25.77.{z}.{t}"

    cine = kit.read_images(tmp_path, kit.each(kit.tiny(), change))
    assert kit.which(cine) == kit.EVERYTHING


# ------------------------------------------------------------------ repeats


def _marked(images, level):
    return kit.each(images, lambda _z, _t, ds: kit.set_pixels(ds, np.full((12, 10), level)))


def test_the_latest_complete_acquisition_of_a_slice_wins(tmp_path):
    again = {key: ds for key, ds in kit.tiny(series="2", number=5).items() if key[0] == 2}
    broken = {
        key: ds for key, ds in kit.tiny(series="3", number=8).items() if key[0] == 2 and key[1] < 11
    }
    everything = [
        *kit.tiny().values(),
        *_marked(again, 2000).values(),
        *_marked(broken, 3000).values(),
    ]
    cine = kit.read_images(tmp_path, everything)
    assert (cine.pixels[:, 2] == 2000).all()
    assert kit.left(cine) == {"repeated-slices": 31}
    assert kit.codes(cine) == {"repeated-slices": "info"}


def test_repeats_under_one_series_are_told_by_number_or_time(tmp_path):
    def same(_z, _t, ds):
        ds.SeriesInstanceUID, ds.SeriesNumber = "2.25.9.1", 1

    for name, change in {
        "number": lambda _z, _t, ds: setattr(ds, "AcquisitionNumber", 2),
        "time": lambda _z, _t, ds: setattr(ds, "AcquisitionTime", "113000"),
    }.items():
        again = {k: ds for k, ds in kit.tiny(series="2", number=1).items() if k[0] == 2}
        again = kit.each(kit.each(_marked(again, 2000), same), change)
        cine = kit.read_images(tmp_path / name, [*kit.tiny().values(), *again.values()])
        assert (cine.pixels[:, 2] == 2000).all(), name
        assert kit.left(cine) == {"repeated-slices": 20}


def test_a_repeat_with_another_heart_rate_is_not_forty_phases(tmp_path):
    again = {k: ds for k, ds in kit.tiny(kit.Shape(rr_ms=812), series="1").items() if k[0] == 2}

    def change(z, t, ds):
        ds.SOPInstanceUID = f"2.25.5.{z}.{t}"
        ds.InstanceNumber = 900 + t

    kit.each(_marked(again, 2000), change)
    cine = kit.read_images(tmp_path, [*kit.tiny().values(), *again.values()])
    assert cine.pixels.shape[:2] == (20, 6)
    assert kit.left(cine) == {"repeated-slices": 20}


def test_another_sequence_at_the_same_place_does_not_mix_in(tmp_path):
    def change(_z, _t, ds):
        ds.SequenceVariant = ["SK", "SP"]
        ds.SequenceName = "*fl2d_grid"

    later = {k: ds for k, ds in kit.tiny(series="4", number=20).items() if k[0] in (1, 3)}
    cine = kit.read_images(tmp_path, [*kit.tiny().values(), *kit.each(later, change).values()])
    assert kit.which(cine) == kit.EVERYTHING


def test_repeated_uids_with_other_content_are_other_images(tmp_path):
    cine = kit.read_images(
        tmp_path, kit.each(kit.tiny(), lambda _z, _t, ds: setattr(ds, "SOPInstanceUID", "1.2"))
    )
    assert kit.which(cine) == kit.EVERYTHING


def test_missing_uids_are_borne(tmp_path):
    def change(_z, _t, ds):
        del ds.SeriesInstanceUID
        del ds.StudyInstanceUID

    assert kit.which(kit.read_images(tmp_path, kit.each(kit.tiny(), change))) == kit.EVERYTHING


def test_exact_copies_are_dropped(tmp_path):
    contents = kit.files(kit.tiny())
    kit.put(tmp_path / "a", contents)
    kit.put(tmp_path / "b", contents)
    cine = kit.read(tmp_path)
    assert kit.which(cine) == kit.EVERYTHING
    assert kit.left(cine) == {"duplicate-file": 120}
    assert cine.source.sha256 == kit.read(tmp_path / "a").source.sha256


@pytest.mark.parametrize("how", ["series", "shift", "turn"])
def test_a_stack_planned_again_is_not_woven_into_the_first(tmp_path, how):
    again = kit.tiny(kit.Shape(slices=5), series="2" if how == "series" else "1", number=7)

    def change(z, t, ds):
        kit.move(ds, 4.0 * kit.NORMAL + (6.0 * kit.ROW if how == "shift" else 0.0))
        ds.SOPInstanceUID = f"2.25.8.{z}.{t}"
        if how != "series":
            ds.SeriesInstanceUID = "2.25.9.1"

    kit.each(_marked(again, 2000), change)
    cine = kit.read_images(tmp_path, [*kit.tiny().values(), *again.values()])
    assert kit.which(cine) == kit.EVERYTHING
    assert kit.left(cine) == {"other-stack": 100}
    assert cine.slice_distance_mm == pytest.approx(10.0)
    assert "irregular-gaps" not in kit.codes(cine)
