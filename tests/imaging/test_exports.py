"""Images as archives and people hand them over: split, mixed, incomplete, copied, in folders."""

from __future__ import annotations

import io
from copy import deepcopy

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from cardiometa.cohort.load import check_cohort, load_cohort
from cardiometa.cohort.models import CohortOptions
from cardiometa.errors import ImageError
from cardiometa.phantom.image import CineGrid, HeartPhantom, render
from cardiometa.phantom.write import encode
from tests.kit.dialects import DIALECTS
from tests.kit.tiny_dicom import (
    COLUMN,
    NORMAL,
    ROW,
    Images,
    Shape,
    codes,
    each,
    files,
    left,
    put,
    read,
    read_images,
    set_pixels,
    tiny,
    which,
)

EVERYTHING = [[(z, t) for z in range(6)] for t in range(20)]


def _siemens(z: int, _t: int, ds: Dataset) -> None:
    ds.SeriesInstanceUID, ds.SeriesNumber = f"{ds.SeriesInstanceUID}.{z}", 10 + z


def _philips(z: int, t: int, ds: Dataset) -> None:
    ds.Manufacturer = "Philips Medical Systems"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"]
    ds.InstanceNumber = t * 6 + z + 1
    ds.TemporalPositionIdentifier = t + 1


def _ge(_z: int, _t: int, ds: Dataset) -> None:
    ds.Manufacturer = "GE MEDICAL SYSTEMS"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]


@pytest.fixture(params=[_siemens, _philips, _ge], ids=["siemens", "philips", "ge"])
def images(request: pytest.FixtureRequest) -> Images:
    """The tiny cine in the form of three vendors, with a frame of reference."""
    made = each(tiny(), request.param)
    return each(made, lambda _z, _t, ds: setattr(ds, "FrameOfReferenceUID", "2.25.31"))


def _where(made: Images, change, keep=lambda _z, _t: True) -> Images:
    return each({key: ds for key, ds in made.items() if keep(*key)}, change)


def _again(made: Images, slices: set[int], **values: object) -> list[Dataset]:
    """Slices once more as other images, with other values of their headers."""
    found = []
    for (z, t), ds in made.items():
        if z in slices:
            copy = deepcopy(ds)
            copy.SOPInstanceUID = f"{ds.SOPInstanceUID}.7"
            copy.SeriesInstanceUID = f"{ds.SeriesInstanceUID}.7"
            copy.SeriesNumber = 90
            set_pixels(copy, np.full((12, 10), 3000))
            for name, value in values.items():
                setattr(copy, name, value(t) if callable(value) else value)
            found.append(copy)
    return found


# ------------------------------------------------------------------ parts of one acquisition


@pytest.mark.parametrize("cuts", [(10,), (14,), (7, 13)])
def test_a_cine_stored_in_several_series_by_phase_is_joined(tmp_path, images, cuts):
    def change(_z, t, ds):
        ds.SeriesInstanceUID += f".{sum(t >= cut for cut in cuts)}"

    cine = read_images(tmp_path, each(images, change))
    assert which(cine) == EVERYTHING
    assert left(cine) == {}
    assert codes(cine) == {}


def test_a_cine_stored_in_several_studies_by_phase_is_joined(tmp_path, images):
    def change(_z, t, ds):
        ds.StudyInstanceUID = ds.SeriesInstanceUID = f"2.25.9.{t // 10}"

    cine = read_images(tmp_path, each(images, change))
    assert which(cine) == EVERYTHING
    assert codes(cine) == {"studies-joined": "info"}


def test_repeats_are_not_joined_to_a_long_beat(tmp_path, images):
    """Another acquisition begins at the R wave again; what begins later but overlaps is unclear."""
    for name, start in (("again", 0.0), ("overlap", 300.0)):
        later = _again(images, set(range(6)), TriggerTime=lambda t, s=start: f"{s + 40.0 * t:.4f}")
        cine = read_images(tmp_path / name, [*images.values(), *later])
        assert cine.pixels.shape[0] == 20, name
        assert left(cine) == {"repeated-slices": 120}, name


def test_a_second_beat_is_not_joined_to_the_first(tmp_path, images):
    later = _again(images, set(range(6)), TriggerTime=lambda t: f"{800.0 + 40.0 * t:.4f}")
    cine = read_images(tmp_path, [*images.values(), *later])
    assert cine.pixels.shape[0] == 20


@pytest.mark.parametrize("by", ["slice", "half"])
def test_studies_with_one_frame_of_reference_are_one_examination(tmp_path, images, by):
    def change(z, _t, ds):
        ds.StudyInstanceUID = f"2.25.9.{z if by == 'slice' else z // 3}"

    cine = read_images(tmp_path, each(images, change))
    assert which(cine) == EVERYTHING
    assert codes(cine) == {"studies-joined": "info"}


def test_studies_without_a_frame_of_reference_are_joined_by_time_and_reviewed(tmp_path):
    def change(z, _t, ds):
        ds.StudyInstanceUID = f"2.25.9.{z}"

    cine = read_images(tmp_path, each(tiny(), change))
    assert which(cine) == EVERYTHING
    assert codes(cine) == {"several-studies": "review"}


def test_studies_of_two_days_are_never_joined(tmp_path, images):
    def change(z, _t, ds):
        ds.StudyInstanceUID = f"2.25.9.{z // 3}"
        ds.AcquisitionDate = f"2020010{1 + z // 3}"

    with pytest.raises(ImageError) as caught:
        read_images(tmp_path, each(images, change))
    assert caught.value.code == "too-few-positions"


# ------------------------------------------------------------------ states


def _stress(t: int) -> str:
    return f"{t * 25.0:.4f}"


def test_slices_under_stress_never_replace_those_at_rest(tmp_path, images):
    """Later, complete, in the same frame of reference: told by the heart rate alone."""
    stress = _again(
        images, {1, 3, 5}, NominalInterval=500, TriggerTime=_stress, AcquisitionTime="110000"
    )
    cine = read_images(tmp_path, [*images.values(), *stress])
    assert which(cine) == EVERYTHING
    assert codes(cine) == {"other-state": "review"}
    assert left(cine) == {"other-state": 60}
    [flag] = cine.source.flags
    assert "3 acquisitions" in flag.sentence
    assert "120 bpm, where 75 bpm is read" in flag.sentence


def test_slices_under_stress_fill_no_gap_of_the_rest_stack(tmp_path, images):
    """Places that the rest stack lacks stay empty: a heart is not half at rest."""
    stress = _again(
        images,
        {0},
        NominalInterval=500,
        TriggerTime=_stress,
        SeriesDescription="cine dobutamine 40",
    )
    rest = {key: ds for key, ds in images.items() if key[0] != 0}
    cine = read_images(tmp_path, [*rest.values(), *stress])
    assert cine.pixels.shape[:2] == (20, 5)
    assert codes(cine) == {"other-state": "review"}
    assert "stress, 120 bpm" in cine.source.flags[0].sentence


def test_a_pass_with_fewer_slices_is_left_out_whichever_is_later(tmp_path, images):
    stress = _again(
        images,
        {0, 1, 2, 3},
        NominalInterval=500,
        TriggerTime=_stress,
        AcquisitionTime="080000",
        FrameOfReferenceUID="2.25.32",
    )
    cine = read_images(tmp_path, [*images.values(), *stress])
    assert which(cine) == EVERYTHING
    assert codes(cine) == {"other-state": "review"}


def test_an_irregular_heart_keeps_its_slices_and_is_reviewed(tmp_path, images):
    def change(z, t, ds):
        if z == 2:
            ds.NominalInterval = 960
            ds.TriggerTime = f"{t * 48.0:.4f}"

    cine = read_images(tmp_path, each(images, change))
    assert which(cine) == EVERYTHING
    assert codes(cine) == {"heart-rate-varies": "review"}
    assert "800 to 960 ms" in cine.source.flags[0].sentence


def test_a_small_change_of_heart_rate_is_nothing(tmp_path, images):
    def change(z, t, ds):
        ds.NominalInterval = 800 + 10 * z
        ds.TriggerTime = f"{t * (800 + 10 * z) / 20:.4f}"

    assert codes(read_images(tmp_path, each(images, change))) == {}


def test_two_frames_of_reference_are_reviewed(tmp_path, images):
    def change(z, _t, ds):
        ds.FrameOfReferenceUID = f"2.25.3{z // 3}"

    cine = read_images(tmp_path, each(images, change))
    assert which(cine) == EVERYTHING
    assert codes(cine) == {"several-frames-of-reference": "review"}


def test_a_repeat_after_the_participant_moved_replaces_nothing(tmp_path, images):
    moved = _again(images, {2}, FrameOfReferenceUID="2.25.77", AcquisitionTime="113000")
    cine = read_images(tmp_path, [*images.values(), *moved])
    assert which(cine) == EVERYTHING
    assert left(cine) == {"repeated-slices": 20}


# ------------------------------------------------------------------ copies and repeats


@pytest.mark.parametrize("kind", [["DERIVED", "SECONDARY", "M"], ["ORIGINAL", "PRIMARY", "MOCO"]])
def test_a_computed_copy_never_wins_over_its_original(tmp_path, images, kind):
    copies = _again(images, set(range(6)), ImageType=kind, AcquisitionTime="113000")
    cine = read_images(tmp_path, [*copies, *images.values()])
    assert which(cine) == EVERYTHING
    assert left(cine) == {"repeated-slices": 120}


@pytest.mark.parametrize("how", ["pixel size", "tilt"])
def test_a_repeat_of_another_geometry_is_reviewed(tmp_path, images, how):
    tilt = np.deg2rad(5.0)
    turned = np.cos(tilt) * COLUMN + np.sin(tilt) * NORMAL
    values: dict[str, object] = {"PixelSpacing": [2.0, 1.8]}
    if how == "tilt":
        values = {"ImageOrientationPatient": [f"{v:.10f}" for v in (*ROW, *turned)]}
    again = _again(images, {3}, AcquisitionTime="105000", **values)
    cine = read_images(tmp_path, [*images.values(), *again])
    assert which(cine) == EVERYTHING
    assert codes(cine) == {"repeated-other-geometry": "review"}
    assert cine.source.flags[0].sentence.startswith("1 slices were acquired again")


@pytest.mark.parametrize("change_mm", [0.003, -0.009])
def test_pixel_sizes_that_differ_by_rounding_are_one_stack(tmp_path, images, change_mm):
    def change(z, _t, ds):
        if z % 2:
            ds.PixelSpacing = [3.0 + change_mm, 2.5 + change_mm]

    cine = read_images(tmp_path, each(images, change))
    assert which(cine) == EVERYTHING
    assert codes(cine) == {}


# ------------------------------------------------------------------ files that cannot be read


def _cut(contents: dict[str, bytes], names: list[str], to: int | None = None) -> None:
    for name in names:
        contents[name] = contents[name][: len(contents[name]) - 60 if to is None else to]


def test_slices_whose_files_are_cut_short_send_the_scan_to_review(tmp_path, images):
    contents = files(images)
    _cut(contents, list(contents)[:40])  # the first two slices
    cine = read(put(tmp_path, contents))
    assert cine.pixels.shape[:2] == (20, 4)
    assert codes(cine) == {"lost-images": "review"}
    assert "40 images" in cine.source.flags[0].sentence
    assert "2 slices are lost altogether" in cine.source.flags[0].sentence
    assert left(cine) == {"damaged": 40}


def test_check_says_what_segment_will_send_to_review(tmp_path, images):
    """One line for each reason, however many scans have it."""
    for person in ("P1", "P2", "P3"):
        for ds in images.values():
            ds.StudyInstanceUID = f"2.25.{person[1]}"
        contents = files(images)
        _cut(contents, [] if person == "P3" else list(contents)[:20])
        put(tmp_path / "cohort" / "ALPHA" / person, contents)
    report = check_cohort(tmp_path / "cohort", CohortOptions(ids_are_pseudonyms=True))
    assert report.problems == ()
    [line] = [line for line in report.warnings if "cannot be read" in line]
    assert line.startswith("ALPHA/P1/baseline: 20 images of this stack")
    assert line.endswith("The same holds for 1 more scans (lost-images).")


@pytest.mark.parametrize("to", [0, 100, 300])
def test_files_of_which_nothing_is_left_count_by_their_folder(tmp_path, images, to):
    contents = {f"sax/{name}.dcm": data for name, data in files(images).items()}
    _cut(contents, list(contents)[100:], to)
    contents["elsewhere/report.dcm"] = b""
    contents["sax/notes.txt"] = b""
    cine = read(put(tmp_path, contents))
    assert cine.pixels.shape[:2] == (20, 5)
    assert codes(cine)["lost-images"] == "review"
    assert any("20 images" in flag.sentence for flag in cine.source.flags)


def test_images_of_other_stacks_that_are_cut_short_do_not_matter(tmp_path, images):
    other = each(
        tiny(Shape(slices=1), series="5"),
        lambda _z, _t, ds: setattr(
            ds, "ImageOrientationPatient", [f"{v:.10f}" for v in (*NORMAL, *ROW)]
        ),
    )
    contents = {f"sax/{name}": data for name, data in files(images).items()}
    long = {f"lax/{name}": data for name, data in files(other).items()}
    _cut(long, list(long))
    cine = read(put(tmp_path, {**contents, **long}))
    assert codes(cine) == {}
    assert left(cine) == {"damaged": 20}


def test_an_intact_copy_replaces_a_file_that_was_cut_short(tmp_path, images):
    contents = files(images)
    broken = {f"b/{name}": data for name, data in list(contents.items())[:20]}
    _cut(broken, list(broken))
    cine = read(put(tmp_path, {**{f"a/{n}": d for n, d in contents.items()}, **broken}))
    assert which(cine) == EVERYTHING
    assert codes(cine) == {}


# ------------------------------------------------------------------ sparse stacks


@pytest.mark.parametrize(
    ("distance", "thickness", "stated", "flagged"),
    [
        (10.0, "8", None, False),
        (12.0, "8", None, False),
        (13.0, "10", None, True),
        (10.0, "6", None, True),
        (10.0, "8", "5", True),
        (10.0, "8", "10", False),
    ],
)
def test_sparse_stacks_are_reviewed(tmp_path, distance, thickness, stated, flagged):
    def change(_z, _t, ds):
        ds.SliceThickness = thickness
        if stated is not None:
            ds.SpacingBetweenSlices = stated

    cine = read_images(tmp_path, each(tiny(Shape(distance_mm=distance)), change))
    assert (codes(cine).get("sparse-stack") == "review") is flagged


# ------------------------------------------------------------------ folders


def test_a_tree_of_an_archive_is_one_scan(tmp_path, images):
    contents = files(images)
    for number, (name, data) in enumerate(contents.items()):
        put(tmp_path / "export" / "ST000" / f"SE{number // 20}", {name: data})
    scans = load_cohort(tmp_path / "export").scans
    assert [str(scan.key) for scan in scans] == ["single/scan-1/baseline"]


def test_the_views_of_a_participant_are_one_scan(tmp_path, images):
    top = tmp_path / "cohort" / "ALPHA"
    for person in ("P1", "P2"):
        view = tiny(Shape(slices=1), series="5")
        for folder, made in (("SAX", images), ("2CH", view)):
            for ds in made.values():
                ds.StudyInstanceUID, ds.FrameOfReferenceUID = f"2.25.{person[1]}", "2.25.31"
            put(top / person / folder, files(made))
    scans = load_cohort(tmp_path / "cohort").scans
    assert [str(scan.key) for scan in scans] == ["ALPHA/P1/baseline", "ALPHA/P2/baseline"]


def test_visits_with_studies_of_their_own_stay_visits(tmp_path, images):
    top = tmp_path / "cohort" / "ALPHA" / "P1"
    for visit in ("baseline", "followup"):
        made = each(
            images, lambda _z, _t, ds, v=visit: setattr(ds, "StudyInstanceUID", f"2.25.{ord(v[0])}")
        )
        put(top / visit, files(made))
    scans = load_cohort(tmp_path / "cohort").scans
    assert [scan.key.visit for scan in scans] == ["baseline", "followup"]


# ------------------------------------------------------------------ enhanced objects


@pytest.fixture(scope="module")
def phantom():
    grid = CineGrid(
        slices=5, frames=20, rows=32, columns=32, row_spacing_mm=4.5, column_spacing_mm=4.5
    )
    return render(HeartPhantom(lv_edv_ml=150, lv_ef_percent=55, seed=2), grid)


def _is_phantom(cine, phantom) -> bool:
    """True where every image is the phantom's; the stack may begin at either end."""
    return any(np.array_equal(cine.pixels[:, ::step], phantom.pixels) for step in (1, -1))


def _reordered(phantom, change) -> dict[str, bytes]:
    """One enhanced object a slice, its frames in any order, after ``change(groups, t)`` of each."""
    order = np.random.default_rng(4).permutation(20)
    contents = {}
    for name, data in DIALECTS["enhanced_per_slice"](phantom).items():
        ds = dcmread(io.BytesIO(data))
        groups = list(ds.PerFrameFunctionalGroupsSequence)
        for t, group in enumerate(groups):
            change(group, t)
        ds.PerFrameFunctionalGroupsSequence = Sequence([groups[t] for t in order])
        pixels = ds.pixel_array[order]
        ds.PixelData = pixels.astype("<u2").tobytes()
        index = Dataset(), Dataset()
        index[0].DimensionIndexPointer, index[1].DimensionIndexPointer = 0x00209057, 0x00209153
        ds.DimensionIndexSequence = Sequence(index)
        contents[name] = encode(ds)
    return contents


def _percentage(group: Dataset, t: int) -> None:
    heart = group.CardiacSynchronizationSequence[0]
    del heart.NominalCardiacTriggerDelayTime, group.FrameContentSequence[0].TemporalPositionIndex
    del group.FrameContentSequence[0].DimensionIndexValues
    heart.NominalPercentageOfCardiacPhase = 5.0 * t


def _actual_delay(group: Dataset, t: int) -> None:
    _percentage(group, t)
    heart = group.CardiacSynchronizationSequence[0]
    del heart.NominalPercentageOfCardiacPhase
    heart.ActualCardiacTriggerDelayTime = 46.0 * t


def _dimension_alone(group: Dataset, t: int) -> None:
    _actual_delay(group, t)
    del group.CardiacSynchronizationSequence
    group.FrameContentSequence[0].DimensionIndexValues = [1, t + 1]


def _offset(group: Dataset, t: int) -> None:
    _dimension_alone(group, t)
    del group.FrameContentSequence[0].DimensionIndexValues
    place = Dataset()
    place.TemporalPositionTimeOffset = 0.046 * t
    group.TemporalPositionSequence = Sequence([place])


def _acquired(group: Dataset, t: int) -> None:
    _dimension_alone(group, t)
    del group.FrameContentSequence[0].DimensionIndexValues
    stamp = f"20000101100000.{46000 * t:06d}"
    group.FrameContentSequence[0].FrameAcquisitionDateTime = stamp


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (_percentage, "NominalPercentageOfCardiacPhase"),
        (_actual_delay, "ActualCardiacTriggerDelayTime"),
        (_dimension_alone, "TemporalPosition"),
        (_offset, "TemporalPosition"),
        (_acquired, "AcquisitionTime"),
    ],
)
def test_enhanced_frames_are_ordered_by_what_their_groups_say(tmp_path, phantom, change, key):
    put(tmp_path, _reordered(phantom, change))
    cine = read(tmp_path)
    assert cine.source.time_key == key
    assert _is_phantom(cine, phantom)


def _single_frames(phantom, converted: bool) -> dict[str, bytes]:
    """Enhanced objects of one frame each, times at the top level or among converted attributes."""
    contents, kind = {}, "1.2.840.10008.5.1.4.1.1.4"
    for name, data in DIALECTS["siemens"](phantom).items():
        ds = dcmread(io.BytesIO(data))
        ds.SOPClassUID = f"{kind}.4" if converted else f"{kind}.1"
        ds.NumberOfFrames = 1
        shared, own, place, plane, measures = (Dataset() for _ in range(5))
        place.ImagePositionPatient = ds.ImagePositionPatient
        plane.ImageOrientationPatient = ds.ImageOrientationPatient
        measures.PixelSpacing, measures.SliceThickness = ds.PixelSpacing, ds.SliceThickness
        own.PlanePositionSequence = Sequence([place])
        shared.PlaneOrientationSequence = Sequence([plane])
        shared.PixelMeasuresSequence = Sequence([measures])
        del ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing
        if converted:
            kept, common = Dataset(), Dataset()
            kept.TriggerTime = ds.TriggerTime
            common.NominalInterval, common.HeartRate = ds.NominalInterval, ds.HeartRate
            own.UnassignedPerFrameConvertedAttributesSequence = Sequence([kept])
            shared.UnassignedSharedConvertedAttributesSequence = Sequence([common])
            del ds.TriggerTime, ds.NominalInterval, ds.HeartRate
        ds.SharedFunctionalGroupsSequence = Sequence([shared])
        ds.PerFrameFunctionalGroupsSequence = Sequence([own])
        contents[name] = encode(ds)
    return contents


@pytest.mark.parametrize("converted", [False, True])
def test_enhanced_objects_of_one_frame_keep_their_times(tmp_path, phantom, converted):
    cine = read(put(tmp_path, _single_frames(phantom, converted)))
    assert cine.source.time_key == "TriggerTime"
    assert cine.source.rr_ms == pytest.approx(round(phantom.phantom.rr_ms), abs=1)
    assert _is_phantom(cine, phantom)


def test_frames_without_functional_groups_send_the_scan_to_review(tmp_path, phantom):
    [data] = DIALECTS["enhanced"](phantom).values()
    ds = dcmread(io.BytesIO(data))
    groups = list(ds.PerFrameFunctionalGroupsSequence)
    ds.PerFrameFunctionalGroupsSequence = Sequence(groups[:80])
    cine = read(put(tmp_path, {"a": encode(ds)}))
    assert cine.pixels.shape[:2] == (20, 4)
    assert codes(cine) == {"lost-images": "review"}
    assert left(cine) == {"no-frame-group": 20}


# ------------------------------------------------------------------ NIfTI of public sets


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (("001_SA_CINE",), ("001_LA_CINE",)),
        (("sa",), ("la_2ch", "la_4ch", "ao")),
        (("001_SA_ED", "001_SA_ES"), ("001_LA_ED", "001_LA_ES")),
    ],
)
def test_long_axis_nifti_next_to_the_short_axis_is_listed(tmp_path, phantom, short, long):
    def save(name: str, values: np.ndarray) -> None:
        nib.save(nib.Nifti1Image(values, np.diag([4.5, 4.5, 10.0, 1.0])), tmp_path / name)

    volumes = phantom.pixels.T.astype(np.int16)  # x, y, z, t
    for name, values in ((short, volumes), (long, volumes[:, :, :1])):
        for index, stem in enumerate(name):
            pair = "_E" in stem
            save(f"{stem}.nii.gz", values[..., 8 * index] if pair else values)
    cine = read(tmp_path)
    assert cine.pixels.shape[1] == 5
    assert len(cine.pixels) == (2 if len(short) == 2 else 20)
    assert left(cine) == {"long-axis-nifti": len(long)}
