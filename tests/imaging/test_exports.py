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
from tests.kit import tiny_dicom as kit
from tests.kit.dialects import DIALECTS


def _again(made: kit.Images, slices: set[int], **values: object) -> list[Dataset]:
    """Slices once more as other images, with other values of their headers."""
    found = []
    for (z, t), ds in made.items():
        if z in slices:
            copy = deepcopy(ds)
            copy.SOPInstanceUID = f"{ds.SOPInstanceUID}.7"
            copy.SeriesInstanceUID = f"{ds.SeriesInstanceUID}.7"
            copy.SeriesNumber = 90
            kit.set_pixels(copy, np.full((12, 10), 3000))
            for name, value in values.items():
                setattr(copy, name, value(t) if callable(value) else value)
            found.append(copy)
    return found


# ------------------------------------------------------------------ parts of one acquisition


@pytest.mark.parametrize("cuts", [(10,), (14,), (7, 13)])
def test_a_cine_stored_in_several_series_by_phase_is_joined(tmp_path, images, cuts):
    def change(_z, t, ds):
        ds.SeriesInstanceUID += f".{sum(t >= cut for cut in cuts)}"

    cine = kit.read_images(tmp_path, kit.each(images, change))
    assert kit.which(cine) == kit.EVERYTHING
    assert kit.left(cine) == {}
    assert kit.codes(cine) == {}


def test_a_cine_stored_in_several_studies_by_phase_is_joined(tmp_path, images):
    def change(_z, t, ds):
        ds.StudyInstanceUID = ds.SeriesInstanceUID = f"2.25.9.{t // 10}"

    cine = kit.read_images(tmp_path, kit.each(images, change))
    assert kit.which(cine) == kit.EVERYTHING
    assert kit.codes(cine) == {"studies-joined": "info"}


def test_repeats_are_not_joined_to_a_long_beat(tmp_path, images):
    """Another acquisition begins at the R wave again; what begins later but overlaps is unclear."""
    for name, start in (("again", 0.0), ("overlap", 300.0)):
        later = _again(images, set(range(6)), TriggerTime=lambda t, s=start: f"{s + 40.0 * t:.4f}")
        cine = kit.read_images(tmp_path / name, [*images.values(), *later])
        assert cine.pixels.shape[0] == 20, name
        assert kit.left(cine) == {"repeated-slices": 120}, name


def test_a_second_beat_is_not_joined_to_the_first(tmp_path, images):
    later = _again(images, set(range(6)), TriggerTime=lambda t: f"{800.0 + 40.0 * t:.4f}")
    cine = kit.read_images(tmp_path, [*images.values(), *later])
    assert cine.pixels.shape[0] == 20


@pytest.mark.parametrize("by", ["slice", "half"])
def test_studies_with_one_frame_of_reference_are_one_examination(tmp_path, images, by):
    def change(z, _t, ds):
        ds.StudyInstanceUID = f"2.25.9.{z if by == 'slice' else z // 3}"

    cine = kit.read_images(tmp_path, kit.each(images, change))
    assert kit.which(cine) == kit.EVERYTHING
    assert kit.codes(cine) == {"studies-joined": "info"}


def test_studies_without_a_frame_of_reference_are_joined_by_time_and_reviewed(tmp_path, images):
    def change(z, _t, ds):
        ds.StudyInstanceUID = f"2.25.9.{z}"
        del ds.FrameOfReferenceUID

    cine = kit.read_images(tmp_path, kit.each(images, change))
    assert kit.which(cine) == kit.EVERYTHING
    assert kit.codes(cine) == {"several-studies": "review"}


def test_studies_of_two_days_are_never_joined(tmp_path, images):
    def change(z, _t, ds):
        ds.StudyInstanceUID = f"2.25.9.{z // 3}"
        ds.AcquisitionDate = f"2020010{1 + z // 3}"

    with pytest.raises(ImageError) as caught:
        kit.read_images(tmp_path, kit.each(images, change))
    assert caught.value.code == "too-few-positions"


# ------------------------------------------------------------------ states


def _stress(t: int) -> str:
    return f"{t * 25.0:.4f}"


def test_slices_under_stress_never_replace_those_at_rest(tmp_path, images):
    """Later, complete, in the same frame of reference: told by the heart rate alone."""
    stress = _again(
        images, {1, 3, 5}, NominalInterval=500, TriggerTime=_stress, AcquisitionTime="110000"
    )
    cine = kit.read_images(tmp_path, [*images.values(), *stress])
    assert kit.which(cine) == kit.EVERYTHING
    assert kit.codes(cine) == {"other-state": "review"}
    assert kit.left(cine) == {"other-state": 60}
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
    cine = kit.read_images(tmp_path, [*rest.values(), *stress])
    assert cine.pixels.shape[:2] == (20, 5)
    assert kit.codes(cine) == {"other-state": "review"}
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
    cine = kit.read_images(tmp_path, [*images.values(), *stress])
    assert kit.which(cine) == kit.EVERYTHING
    assert kit.codes(cine) == {"other-state": "review"}


@pytest.mark.parametrize("rr_ms", [960, 920, 690])
def test_an_irregular_heart_keeps_its_slices_and_is_reviewed(tmp_path, images, rr_ms):
    """One slice that differs by 15 % (920 of 800 ms) is enough."""

    def change(z, t, ds):
        if z == 2:
            ds.NominalInterval = rr_ms
            ds.TriggerTime = f"{t * rr_ms / 20:.4f}"

    cine = kit.read_images(tmp_path, kit.each(images, change))
    assert kit.which(cine) == kit.EVERYTHING
    assert kit.codes(cine) == {"heart-rate-varies": "review"}
    assert "RR interval of 1 slices lies 15% or more from" in cine.source.flags[0].sentence
    assert f"{min(800, rr_ms)} to {max(800, rr_ms)} ms" in cine.source.flags[0].sentence


@pytest.mark.parametrize("step_ms", [10, 19])
def test_a_small_change_of_heart_rate_is_nothing(tmp_path, images, step_ms):
    def change(z, t, ds):
        ds.NominalInterval = 800 + step_ms * z
        ds.TriggerTime = f"{t * (800 + step_ms * z) / 20:.4f}"

    assert kit.codes(kit.read_images(tmp_path, kit.each(images, change))) == {}


def test_two_frames_of_reference_are_reviewed(tmp_path, images):
    def change(z, _t, ds):
        ds.FrameOfReferenceUID = f"2.25.3{z // 3}"

    cine = kit.read_images(tmp_path, kit.each(images, change))
    assert kit.which(cine) == kit.EVERYTHING
    assert kit.codes(cine) == {"several-frames-of-reference": "review"}


def test_a_repeat_after_the_participant_moved_replaces_nothing(tmp_path, images):
    moved = _again(images, {2}, FrameOfReferenceUID="2.25.77", AcquisitionTime="113000")
    cine = kit.read_images(tmp_path, [*images.values(), *moved])
    assert kit.which(cine) == kit.EVERYTHING
    assert kit.left(cine) == {"repeated-slices": 20}


# ------------------------------------------------------------------ copies and repeats


@pytest.mark.parametrize("kind", [["DERIVED", "SECONDARY", "M"], ["ORIGINAL", "PRIMARY", "MOCO"]])
def test_a_computed_copy_never_wins_over_its_original(tmp_path, images, kind):
    copies = _again(images, set(range(6)), ImageType=kind, AcquisitionTime="113000")
    cine = kit.read_images(tmp_path, [*copies, *images.values()])
    assert kit.which(cine) == kit.EVERYTHING
    assert kit.left(cine) == {"repeated-slices": 120}


@pytest.mark.parametrize("how", ["pixel size", "tilt"])
def test_a_repeat_of_another_geometry_is_reviewed(tmp_path, images, how):
    again = _again(images, {3}, AcquisitionTime="105000")
    for ds in again:
        if how == "tilt":
            kit.tilted(ds, 5.0)
        else:
            ds.PixelSpacing = [2.0, 1.8]
    cine = kit.read_images(tmp_path, [*images.values(), *again])
    assert kit.which(cine) == kit.EVERYTHING
    assert kit.codes(cine) == {"repeated-other-geometry": "review"}
    assert cine.source.flags[0].sentence.startswith("1 slices were acquired again")


@pytest.mark.parametrize("change_mm", [0.003, -0.009])
def test_pixel_sizes_that_differ_by_rounding_are_one_stack(tmp_path, images, change_mm):
    def change(z, _t, ds):
        if z % 2:
            ds.PixelSpacing = [3.0 + change_mm, 2.5 + change_mm]

    cine = kit.read_images(tmp_path, kit.each(images, change))
    assert kit.which(cine) == kit.EVERYTHING
    assert kit.codes(cine) == {}


# ------------------------------------------------------------------ files that cannot be read


def _cut(contents: dict[str, bytes], names: list[str], to: int | None = None) -> None:
    for name in names:
        contents[name] = contents[name][: len(contents[name]) - 60 if to is None else to]


def test_slices_whose_files_are_cut_short_send_the_scan_to_review(tmp_path, images):
    contents = kit.files(images)
    _cut(contents, list(contents)[:40])  # the first two slices
    cine = kit.read(kit.put(tmp_path, contents))
    assert cine.pixels.shape[:2] == (20, 4)
    assert kit.codes(cine) == {"lost-images": "review"}
    assert "40 images" in cine.source.flags[0].sentence
    assert "2 slices are lost altogether" in cine.source.flags[0].sentence
    assert kit.left(cine) == {"damaged": 40}


def test_check_says_what_segment_will_send_to_review(tmp_path, images):
    """One line for each reason, however many scans have it."""
    for person in ("P1", "P2", "P3"):
        contents = kit.files(kit.of_person(images, int(person[1])))
        _cut(contents, [] if person == "P3" else list(contents)[:20])
        kit.put(tmp_path / "cohort" / "ALPHA" / person, contents)
    report = check_cohort(tmp_path / "cohort", CohortOptions(ids_are_pseudonyms=True))
    assert report.problems == ()
    [line] = [line for line in report.warnings if "cannot be read" in line]
    assert line.startswith("ALPHA/P1/baseline: 20 images of this stack")
    assert line.endswith("The same holds for 1 more scans (lost-images).")


@pytest.mark.parametrize("to", [0, 100, 300])
def test_files_of_which_nothing_is_left_count_by_their_folder(tmp_path, images, to):
    contents = {f"sax/{name}.dcm": data for name, data in kit.files(images).items()}
    _cut(contents, list(contents)[100:], to)
    contents["elsewhere/report.dcm"] = b""
    contents["sax/notes.txt"] = b""
    cine = kit.read(kit.put(tmp_path, contents))
    assert cine.pixels.shape[:2] == (20, 5)
    assert kit.codes(cine)["lost-images"] == "review"
    assert any("20 images" in flag.sentence for flag in cine.source.flags)


def test_images_of_other_stacks_that_are_cut_short_do_not_matter(tmp_path, images):
    other = kit.each(
        kit.tiny(kit.Shape(slices=1), series="5"),
        lambda _z, _t, ds: setattr(
            ds, "ImageOrientationPatient", [f"{v:.10f}" for v in (*kit.NORMAL, *kit.ROW)]
        ),
    )
    contents = {f"sax/{name}": data for name, data in kit.files(images).items()}
    long = {f"lax/{name}": data for name, data in kit.files(other).items()}
    _cut(long, list(long))
    cine = kit.read(kit.put(tmp_path, {**contents, **long}))
    assert kit.codes(cine) == {}
    assert kit.left(cine) == {"damaged": 20}


def test_an_intact_copy_replaces_a_file_that_was_cut_short(tmp_path, images):
    contents = kit.files(images)
    broken = {f"b/{name}": data for name, data in list(contents.items())[:20]}
    _cut(broken, list(broken))
    cine = kit.read(kit.put(tmp_path, {**{f"a/{n}": d for n, d in contents.items()}, **broken}))
    assert kit.which(cine) == kit.EVERYTHING
    assert kit.codes(cine) == {}


# ------------------------------------------------------------------ sparse and tilted stacks


@pytest.mark.parametrize(
    ("distance", "thickness", "stated", "why"),
    [
        (10.0, "8", None, ""),
        (12.0, "8", None, ""),
        (13.0, "10", None, "more than 12 mm"),
        (10.0, "6", None, "more than 1.5 times their thickness of 6.0 mm"),
        (9.0, "6", None, ""),
        (10.0, "8", "5", "about twice the 5.0 mm that the header states"),
        (10.0, "8", "10", ""),
    ],
)
@pytest.mark.parametrize("vendor", kit.VENDORS)
def test_sparse_stacks_are_reviewed(tmp_path, vendor, distance, thickness, stated, why):
    def change(_z, _t, ds):
        ds.SliceThickness = thickness
        if stated is not None:
            ds.SpacingBetweenSlices = stated

    made = kit.vendor_images(vendor, kit.Shape(slices=4, phases=8, distance_mm=distance))
    cine = kit.read_images(tmp_path, kit.each(made, change))
    found = [flag for flag in cine.source.flags if flag.code == "sparse-stack"]
    assert [flag.level for flag in found] == (["review"] if why else [])
    assert not why or f"lie {distance:.1f} mm apart ({why})" in found[0].sentence


@pytest.mark.parametrize("degrees", [0.7, 2.0, 5.0])
def test_a_tilt_that_grows_along_the_stack_is_named(tmp_path, images, degrees):
    made = kit.each(images, lambda z, _t, ds: kit.tilted(ds, degrees * z))
    with pytest.raises(ImageError, match=r"not parallel: their tilt grows .* \(120\)") as caught:
        kit.read_images(tmp_path, made)
    assert caught.value.code == "not-parallel"
    assert "long-axis" not in str(caught.value)


def test_long_axis_views_are_not_a_stack_whose_tilt_grows(tmp_path, images):
    """Four views that turn about one axis."""
    middle = np.array(images[3, 0].ImagePositionPatient, float)

    def cross(z, _t, ds):
        angle = np.deg2rad(45.0 * z)
        kit.turned(ds, np.cos(angle) * kit.ROW + np.sin(angle) * kit.COLUMN, kit.NORMAL)
        ds.ImagePositionPatient = [f"{v:.6f}" for v in middle]

    made = {key: ds for key, ds in images.items() if key[0] < 4}
    with pytest.raises(ImageError) as caught:
        kit.read_images(tmp_path, kit.each(made, cross))
    assert caught.value.code == "too-few-positions"


# ------------------------------------------------------------------ folders


def test_a_tree_of_an_archive_is_one_scan(tmp_path, images):
    contents = kit.files(images)
    for number, (name, data) in enumerate(contents.items()):
        kit.put(tmp_path / "export" / "ST000" / f"SE{number // 20}", {name: data})
    scans = load_cohort(tmp_path / "export").scans
    assert [str(scan.key) for scan in scans] == ["single/scan-1/baseline"]


def test_the_views_of_a_participant_are_one_scan(tmp_path, images):
    top = tmp_path / "cohort" / "ALPHA"
    for person in ("P1", "P2"):
        view = kit.tiny(kit.Shape(slices=1), series="5")
        for folder, made in (("SAX", images), ("2CH", view)):
            for ds in made.values():
                ds.StudyInstanceUID, ds.FrameOfReferenceUID = f"2.25.{person[1]}", "2.25.31"
            kit.put(top / person / folder, kit.files(made))
    scans = load_cohort(tmp_path / "cohort").scans
    assert [str(scan.key) for scan in scans] == ["ALPHA/P1/baseline", "ALPHA/P2/baseline"]


def test_visits_with_studies_of_their_own_stay_visits(tmp_path, images):
    top = tmp_path / "cohort" / "ALPHA" / "P1"
    for visit in ("baseline", "followup"):
        made = kit.each(
            images, lambda _z, _t, ds, v=visit: setattr(ds, "StudyInstanceUID", f"2.25.{ord(v[0])}")
        )
        kit.put(top / visit, kit.files(made))
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


# One object a slice, or one of all slices with phases or slices innermost.
ENHANCED = {
    "SIEMENS": "enhanced_per_slice",
    "Philips": "enhanced",
    "GE MEDICAL SYSTEMS": "enhanced_slices_inner",
}


def _enhanced(phantom, vendor: str) -> dict[str, Dataset]:
    """The phantom as a vendor's enhanced objects, by file name."""
    found = {}
    for name, data in DIALECTS[ENHANCED[vendor]](phantom).items():
        found[name] = dcmread(io.BytesIO(data))
        found[name].Manufacturer = vendor
    return found


def _reordered(phantom, vendor, change) -> dict[str, bytes]:
    """Enhanced objects, their frames in any order, after ``change(groups, t)`` of each."""
    contents = {}
    for name, ds in _enhanced(phantom, vendor).items():
        groups = list(ds.PerFrameFunctionalGroupsSequence)
        order = np.random.default_rng(4).permutation(len(groups))
        for group in groups:
            change(group, group.FrameContentSequence[0].TemporalPositionIndex - 1)
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
@pytest.mark.parametrize("vendor", ENHANCED)
def test_enhanced_frames_are_ordered_by_what_their_groups_say(
    tmp_path, phantom, vendor, change, key
):
    kit.put(tmp_path, _reordered(phantom, vendor, change))
    cine = kit.read(tmp_path)
    assert cine.source.time_key == key
    assert _is_phantom(cine, phantom)


def _single_frames(phantom, vendor: str, converted: bool) -> dict[str, bytes]:
    """Enhanced objects of one frame each, times at the top level or among converted attributes."""
    contents, kind = {}, "1.2.840.10008.5.1.4.1.1.4"
    for name, data in DIALECTS[vendor](phantom).items():
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
@pytest.mark.parametrize("vendor", ["siemens", "philips", "ge"])
def test_enhanced_objects_of_one_frame_keep_their_times(tmp_path, phantom, vendor, converted):
    cine = kit.read(kit.put(tmp_path, _single_frames(phantom, vendor, converted)))
    # Trigger times of Philips run on from slice to slice.
    assert cine.source.time_key == ("TemporalPosition" if vendor == "philips" else "TriggerTime")
    assert cine.source.rr_ms == pytest.approx(round(phantom.phantom.rr_ms), abs=1)
    assert _is_phantom(cine, phantom)


@pytest.mark.parametrize(
    ("vendor", "kept", "shape"),
    [("SIEMENS", 16, (16, 5)), ("Philips", 80, (20, 4)), ("GE MEDICAL SYSTEMS", 80, (16, 5))],
)
def test_frames_without_functional_groups_send_the_scan_to_review(
    tmp_path, phantom, vendor, kept, shape
):
    contents = {}
    for name, ds in _enhanced(phantom, vendor).items():
        groups = list(ds.PerFrameFunctionalGroupsSequence)
        ds.PerFrameFunctionalGroupsSequence = Sequence(groups[:kept])
        contents[name] = encode(ds)
    cine = kit.read(kit.put(tmp_path, contents))
    assert cine.pixels.shape[:2] == shape
    assert kit.codes(cine)["lost-images"] == "review"
    assert kit.left(cine) == {"no-frame-group": 20}


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
    cine = kit.read(tmp_path)
    assert cine.pixels.shape[1] == 5
    assert len(cine.pixels) == (2 if len(short) == 2 else 20)
    assert kit.left(cine) == {"long-axis-nifti": len(long)}


@pytest.mark.parametrize("vendor", ["siemens", "philips", "ge"])
def test_converted_images_keep_their_place_where_the_sform_is_empty(tmp_path, phantom, vendor):
    """Headers as ACDC's: an identity sform with a sound qform is no reason for review."""
    cine = kit.read(kit.put(tmp_path / "dicom", DIALECTS[vendor](phantom)))
    image = nib.Nifti1Image(cine.pixels.T, cine.affine)
    image.header.set_xyzt_units("mm", "msec")
    image.set_qform(cine.affine, 1)
    image.set_sform(np.eye(4), 2)
    nib.save(image, tmp_path / "cine.nii.gz")
    found = kit.read(tmp_path / "cine.nii.gz")
    assert np.array_equal(found.pixels, cine.pixels)
    assert found.affine == pytest.approx(cine.affine, abs=1e-3)
    assert found.slice_distance_mm == pytest.approx(cine.slice_distance_mm, abs=1e-3)
    assert set(kit.codes(found).values()) <= {"info"}
