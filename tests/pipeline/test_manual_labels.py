"""Readers' labels from NIfTI, DICOM SEG, contour lists and tables, put on the model's grid."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.pixels import pack_bits
from pydicom.uid import ExplicitVRLittleEndian

from cardiometa.errors import InputError
from cardiometa.evaluation.overlap import CONTOURED, likely_order, masks_of
from cardiometa.imaging.read import ReadOptions, read_cine
from cardiometa.reading.contours import filled, polygon_area, read_contours
from cardiometa.reading.label_file import LabelFile, ScanGrid, ScanTarget, UnusableError
from cardiometa.reading.manual_labels import find_labels, read_manual, read_seg
from cardiometa.records import CineStack, ScanKey, ScanSource
from tests.kit.data import shared_data
from tests.kit.segmented_out import heart
from tests.kit.tiny_dicom import COLUMNS, ROWS, encode, put, read, tiny

KEY = ScanKey(trial="A", participant="p1", visit="baseline")
OTHER = ScanKey(trial="A", participant="p1", visit="later")


def target_of(cine: CineStack, **changes) -> ScanTarget:
    grid = ScanGrid(shape=cine.pixels.shape, affine=cine.affine)  # type: ignore[arg-type]
    return ScanTarget(key=KEY, grid=grid, **changes)


@pytest.fixture(scope="module")
def cine(tmp_path_factory: pytest.TempPathFactory) -> CineStack:
    folder = tmp_path_factory.mktemp("tiny")
    put(folder, numbered())
    return read(folder)


def numbered(prefix: str = "") -> dict[str, bytes]:
    """Tiny DICOM images under the numbers of a scanner that counts slices from the top."""
    return {f"{prefix}{(5 - z) * 20 + t + 1}.dcm": encode(ds) for (z, t), ds in tiny().items()}


# ------------------------------------------------------------------ DICOM SEG

CODES = ("53085002", "87878005", "49848007")  # RV first: segment numbers say nothing


def code_item(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", "structure"
    return item


def seg_bytes(cine: CineStack, masks: dict[str, np.ndarray], *, change=None) -> bytes:
    """A BINARY SEG with a frame for each slice that is not empty, in the order of the segments."""
    from_tiny = tiny()
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.66.4", "2.25.77"
    ds.SegmentationType, ds.Modality = "BINARY", "SEG"
    ds.Rows, ds.Columns = ROWS, COLUMNS
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = ds.PixelRepresentation = 0
    ds.SegmentSequence, frames, bits = [], [], []
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    first = from_tiny[0, 0]
    measures.PixelSpacing = first.PixelSpacing
    plane.ImageOrientationPatient = first.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    ds.SharedFunctionalGroupsSequence = [shared]
    for number, code in enumerate(masks, start=1):
        segment = Dataset()
        segment.SegmentNumber, segment.SegmentLabel = number, "anything"
        segment.SegmentedPropertyTypeCodeSequence = [code_item(code)]
        ds.SegmentSequence.append(segment)
        for z in range(masks[code].shape[0]):
            if not masks[code][z].any():
                continue
            frame, which, place = Dataset(), Dataset(), Dataset()
            which.ReferencedSegmentNumber = number
            place.ImagePositionPatient = from_tiny[order_of(cine)[z], 0].ImagePositionPatient
            frame.SegmentIdentificationSequence = [which]
            frame.PlanePositionSequence = [place]
            frames.append(frame)
            bits.append(masks[code][z])
    ds.PerFrameFunctionalGroupsSequence, ds.NumberOfFrames = frames, len(frames)
    ds.PixelData = pack_bits(np.array(bits).astype(np.uint8), pad=True)
    ds["PixelData"].VR = "OB"
    if change:
        change(ds)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    stream = io.BytesIO()
    dcmwrite(stream, ds, enforce_file_format=True)
    return stream.getvalue()


def order_of(cine: CineStack) -> list[int]:
    """Which of the tiny slices each slice of the stack is, from its pixels."""
    return [round((cine.pixels[0, z, 5, 5] - 100) / 200) for z in range(6)]


def some_masks(seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    masks = {code: generator.random((6, ROWS, COLUMNS)) < 0.3 for code in CODES}
    masks["87878005"][2] = False  # a slice without a frame
    return masks


NAMES = {"53085002": "rv_cavity", "87878005": "lv_cavity", "49848007": "lv_myocardium"}


def test_seg_comes_back_voxel_by_voxel(cine: CineStack) -> None:
    masks = some_masks()
    found = read_seg(seg_bytes(cine, masks), target_of(cine))
    assert set(found) == set(NAMES.values())
    for code, name in NAMES.items():
        np.testing.assert_array_equal(found[name], masks[code])


def test_seg_with_turned_images_lies_at_its_place(cine: CineStack) -> None:
    """Rows and columns exchanged, as a viewer may write them: positions tell, not indices."""
    masks = some_masks(1)

    def turn(ds: Dataset) -> None:
        bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")
        bits = bits[: ds.NumberOfFrames * ROWS * COLUMNS].reshape(-1, ROWS, COLUMNS)
        ds.PixelData = pack_bits(np.ascontiguousarray(bits.transpose(0, 2, 1)), pad=True)
        ds["PixelData"].VR = "OB"
        ds.Rows, ds.Columns = COLUMNS, ROWS
        shared = ds.SharedFunctionalGroupsSequence[0]
        cosines = list(shared.PlaneOrientationSequence[0].ImageOrientationPatient)
        shared.PlaneOrientationSequence[0].ImageOrientationPatient = cosines[3:] + cosines[:3]
        spacing = list(shared.PixelMeasuresSequence[0].PixelSpacing)
        shared.PixelMeasuresSequence[0].PixelSpacing = spacing[::-1]

    found = read_seg(seg_bytes(cine, masks, change=turn), target_of(cine))
    for code, name in NAMES.items():
        np.testing.assert_array_equal(found[name], masks[code])


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("labels-not-seg", lambda ds: setattr(ds, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.4")),
        ("labels-not-binary", lambda ds: setattr(ds, "SegmentationType", "FRACTIONAL")),
        (
            "labels-without-codes",
            lambda ds: [
                setattr(s.SegmentedPropertyTypeCodeSequence[0], "CodeValue", "1")
                for s in ds.SegmentSequence
            ],
        ),
        (
            "labels-other-grid",
            lambda ds: setattr(
                ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0],
                "PixelSpacing",
                [1.7, 1.7],
            ),
        ),
        (
            "labels-outside",
            lambda ds: (
                [
                    setattr(
                        f.PlanePositionSequence[0],
                        "ImagePositionPatient",
                        list(tiny()[0, 0].ImagePositionPatient),
                    )
                    for f in ds.PerFrameFunctionalGroupsSequence
                ]
                and setattr(
                    ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0],
                    "ImageOrientationPatient",
                    [-v for v in tiny()[0, 0].ImageOrientationPatient],
                )
            ),
        ),
    ],
)
def test_seg_that_cannot_be_used(cine: CineStack, code: str, change) -> None:
    with pytest.raises(UnusableError) as caught:
        read_seg(seg_bytes(cine, some_masks(), change=change), target_of(cine))
    assert caught.value.code == code


def test_seg_refused_where_the_grid_does_not_tell_places(cine: CineStack) -> None:
    with pytest.raises(UnusableError) as caught:
        read_seg(seg_bytes(cine, some_masks()), target_of(cine, even=False))
    assert caught.value.code == "labels-irregular-gaps"
    with pytest.raises(UnusableError) as caught:
        read_seg(b"no dicom at all", target_of(cine))
    assert caught.value.code in {"labels-not-seg", "labels-unreadable"}


# ------------------------------------------------------------------ contours


def circle(x: float, y: float, radius: float, points: int = 90) -> str:
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    rows = np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)
    return "\n".join(f"{a:.4f} {b:.4f}" for a, b in rows)


def contour_files() -> dict[str, bytes]:
    """ED at phase 3 in slices 1 to 3 (endo and epi), ES at phase 11 in slices 2 and 3 (endo)."""
    files = {}
    for z, phase, radius, kind in (
        (1, 3, 2.5, "i"),
        (2, 3, 2.6, "i"),
        (3, 3, 2.7, "i"),
        (1, 3, 4.0, "o"),
        (2, 3, 4.0, "o"),
        (3, 3, 4.0, "o"),
        (2, 11, 1.4, "i"),
        (3, 11, 1.5, "i"),
    ):
        number = (5 - z) * 20 + phase + 1
        name = f"contours/IM-0001-{number:04d}-{kind}contour-manual.txt"
        files[name] = circle(5.0, 6.0, radius).encode()
    return files


def test_contours_find_their_slice_and_phase(tmp_path: Path, cine: CineStack) -> None:
    put(tmp_path, {**numbered("dicom/"), **contour_files()})
    scan = read_contours(tmp_path, target_of(cine))
    assert scan.scope == CONTOURED
    ed, es = scan.phases
    assert (ed.phase, ed.frame, es.phase, es.frame) == ("ED", 3, "ES", 11)
    own = [order_of(cine).index(z) for z in (1, 2, 3)]
    assert sorted(ed.slices["lv_cavity"]) == sorted(own)
    assert sorted(es.slices["lv_cavity"]) == sorted(own[1:])
    assert set(es.masks) == {"lv_cavity"}  # no epicardium at ES
    voxel_ml = 3.0 * 2.5 * 10 / 1000
    expected = np.pi * (2.5**2 + 2.6**2 + 2.7**2) * voxel_ml
    assert ed.volumes_ml["lv_cavity"] == pytest.approx(expected, rel=0.01)
    wall = np.pi * (3 * 4.0**2) * voxel_ml - expected
    assert ed.volumes_ml["lv_myocardium"] == pytest.approx(wall, rel=0.01)
    assert not (ed.masks["lv_cavity"] & ed.masks["lv_myocardium"]).any()
    assert ed.masks["lv_cavity"].sum() == pytest.approx(expected / voxel_ml, rel=0.15)


def test_contours_in_a_zip(tmp_path: Path, cine: CineStack) -> None:
    path = tmp_path / "p1.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**numbered("p1/dicom/"), **contour_files()}.items():
            archive.writestr(name, data)
    found = find_labels(tmp_path, [KEY])
    assert found == {KEY: (LabelFile(kind="contours", path=path),)}
    scan, orders = read_manual(found[KEY], target_of(cine))  # type: ignore[arg-type]
    assert len(scan.sha256) == 8
    assert orders == ()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"contours/IM-0001-0001-icontour-manual.txt": b"1 2\n3 4\n"}, "labels-unreadable"),
        ({"contours/IM-0001-0001-icontour-manual.txt": b"a b c"}, "labels-unreadable"),
        (
            {"contours/IM-0001-0999-icontour-manual.txt": circle(5, 6, 2).encode()},
            "labels-without-images",
        ),
        (
            {"contours/IM-0001-0110-icontour-manual.txt": circle(5, 6, 2).encode()},
            "labels-phases",
        ),
    ],
)
def test_contours_that_cannot_be_used(
    tmp_path: Path, cine: CineStack, change: dict[str, bytes], code: str
) -> None:
    put(tmp_path, {**numbered("dicom/"), **contour_files(), **change})
    with pytest.raises(UnusableError) as caught:
        read_contours(tmp_path, target_of(cine))
    assert caught.value.code == code


def test_polygons() -> None:
    square = np.array([[1.0, 1.0], [4.0, 1.0], [4.0, 3.0], [1.0, 3.0]])
    assert polygon_area(square) == 6
    mask = filled(square, (6, 6))
    assert mask.sum() == 6
    assert mask[1:3, 1:4].all()
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    disc = np.stack([50 + 30 * np.cos(angle), 40 + 30 * np.sin(angle)], axis=1)
    assert filled(disc, (100, 100)).sum() == pytest.approx(polygon_area(disc), rel=0.01)


@pytest.mark.data
@pytest.mark.parametrize(
    ("case", "volumes", "frames"),
    [
        ("SCD0000101", (191.3, 141.3), (18, 7)),
        ("SCD0000201", (241.9, 180.3), (19, 6)),
        ("SCD0000301", (229.7, 179.6), (19, 6)),
    ],
)
def test_real_contours(case: str, volumes: tuple[float, float], frames: tuple[int, int]) -> None:
    path = shared_data() / "sunnybrook" / f"{case}.zip"
    cine = read_cine(ScanSource(kind="images", paths=(path,)), ReadOptions())
    scan = read_contours(path, target_of(cine))
    assert tuple(p.frame for p in scan.phases) == frames
    found = [p.volumes_ml["lv_cavity"] for p in scan.phases]
    assert found == pytest.approx(volumes, abs=0.06)


# ------------------------------------------------------------------ NIfTI, folders, tables


def nifti(labels: np.ndarray, affine: np.ndarray | None = None) -> bytes:
    affine = np.diag([2.0, 2.0, 10.0, 1.0]) if affine is None else affine
    return Nifti1Image(labels.transpose(2, 1, 0), affine).to_bytes()


def nifti_target(frames: int = 2) -> ScanTarget:
    shape = (frames, *heart(1, 1.0).shape)
    grid = ScanGrid(shape=shape, affine=np.diag([2.0, 2.0, 10.0, 1.0]))  # type: ignore[arg-type]
    return ScanTarget(key=KEY, grid=grid)


def test_order_of_labels_is_told_by_shape() -> None:
    ours = heart(3, 0.8)
    acdc = np.array([0, 3, 2, 1], dtype=np.uint8)[ours]
    assert likely_order(ours) == "cardiometa"
    assert likely_order(acdc) == "acdc"
    assert likely_order(np.where(ours == 3, 0, ours)) is None
    for name, mask in masks_of(acdc, "acdc").items():
        np.testing.assert_array_equal(mask, masks_of(ours, "cardiometa")[name])


def test_nifti_pair_and_frame_numbers(tmp_path: Path) -> None:
    put(
        tmp_path,
        {"A/p1/x_ED_gt.nii": nifti(heart(1, 1.0)), "A/p1/x_ES_gt.nii": nifti(heart(1, 0.5))},
    )
    files = find_labels(tmp_path, [KEY])[KEY]
    assert isinstance(files, tuple)
    scan, orders = read_manual(files, nifti_target())
    assert [(p.phase, p.frame) for p in scan.phases] == [("ED", 0), ("ES", 1)]
    assert orders == ("cardiometa", "cardiometa")
    # Of a whole cine the labels do not tell the frame: the model's own is compared.
    scan, _ = read_manual(files, nifti_target(20))
    assert [p.frame for p in scan.phases] == [None, None]


def test_labels_of_a_frame_beyond_the_scan_or_another_grid(tmp_path: Path) -> None:
    put(tmp_path, {"a.nii": nifti(heart(1, 1.0)), "small.nii": nifti(heart(1, 1.0)[:, :40])})
    for file, code in (
        (LabelFile(kind="nifti", path=tmp_path / "a.nii", frame=20), "labels-other-frame"),
        (LabelFile(kind="nifti", path=tmp_path / "small.nii", phase="ED"), "labels-unusable"),
        (LabelFile(kind="nifti", path=tmp_path / "none.nii", phase="ED"), "labels-unreadable"),
    ):
        with pytest.raises(UnusableError) as caught:
            read_manual((file,), nifti_target(20))
        assert caught.value.code == code


def test_a_folder_that_may_be_of_two_visits_is_not_guessed(tmp_path: Path) -> None:
    put(tmp_path, {"p1/p1_ED_gt.nii.gz": b"x"})
    assert isinstance(find_labels(tmp_path, [KEY])[KEY], tuple)
    for found in find_labels(tmp_path, [KEY, OTHER]).values():
        assert isinstance(found, UnusableError)
        assert found.code == "labels-ambiguous"
    same_id = ScanKey(trial="B", participant="p1", visit="baseline")
    for found in find_labels(tmp_path, [KEY, same_id]).values():
        assert isinstance(found, UnusableError)
    put(tmp_path, {"A/p1/later/ed.seg.dcm": b"x"})
    found = find_labels(tmp_path, [KEY, OTHER])[OTHER]
    assert isinstance(found, tuple)
    assert found[0].kind == "dicom-seg"


def test_two_files_of_one_phase_are_not_guessed(tmp_path: Path) -> None:
    put(tmp_path, {"p1/a_ED_gt.nii": b"x", "p1/b_ED_gt.nii": b"x"})
    found = find_labels(tmp_path, [KEY])[KEY]
    assert isinstance(found, UnusableError)


def test_a_table_of_labels(tmp_path: Path) -> None:
    put(tmp_path, {"one.nii.gz": b"x", "two.dcm": b"x"})
    table = tmp_path / "labels.csv"
    head = "trial,participant_id,visit,phase,labels\n"
    table.write_text(head + "A,p1,baseline,ED,one.nii.gz\nA,p1,baseline,7,two.dcm\n")
    assert find_labels(table, [KEY])[KEY] == (
        LabelFile(kind="nifti", path=tmp_path / "one.nii.gz", phase="ED"),
        LabelFile(kind="dicom-seg", path=tmp_path / "two.dcm", frame=7),
    )


def test_every_fault_of_a_table_is_said(tmp_path: Path) -> None:
    put(tmp_path, {"one.nii.gz": b"x"})
    table = tmp_path / "labels.csv"
    table.write_text(
        "trial,participant_id,visit,phase,labels\n"
        "A,p9,baseline,ED,one.nii.gz\n"
        "A,p1,baseline,EX,one.nii.gz\n"
        "A,p1,baseline,ED,none.nii.gz\n"
        "A,p1,baseline,ES,one.nii.gz\n"
        "A,p1,baseline,ES,one.nii.gz\n"
        "A,p1,baseline,,one.nii.gz\n"
    )
    with pytest.raises(InputError) as caught:
        find_labels(table, [KEY])
    assert len(caught.value.problems) == 5
    table.write_text("trial,participant,visit,phase,labels\n")
    with pytest.raises(InputError):
        find_labels(table, [KEY])
