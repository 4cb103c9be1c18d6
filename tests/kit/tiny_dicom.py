"""The smallest DICOM cine that a reader takes: every image says in its pixels which one it is.

``tiny()`` gives data sets by (slice, phase); tests change them and write them with ``put``. An
image is filled with ``value(z, t)``; its first pixel is 50 higher, its last row 7 lower, so that a
mirrored or transposed image is seen.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian

from cardiometa.imaging.read import ReadOptions, read_cine
from cardiometa.records import CineStack, ScanSource

ROWS, COLUMNS = 12, 10
SPACING = (3.0, 2.5)  # between rows, between columns
# An orthonormal short-axis frame: the normal points left, forward and down.
NORMAL = np.array([0.64, -0.6, -0.48])
NORMAL = NORMAL / np.linalg.norm(NORMAL)
ROW = np.cross(NORMAL, [0.0, 0.0, 1.0])
ROW = ROW / np.linalg.norm(ROW)
COLUMN = np.cross(NORMAL, ROW)
ORIGIN = np.array([-30.0, 20.0, 60.0])
Key = tuple[int, int]
Images = dict[Key, Dataset]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Size and timing of a tiny cine."""

    slices: int = 6
    phases: int = 20
    distance_mm: float = 10.0
    rr_ms: float = 800.0


def value(z: int, t: int) -> int:
    """What the pixels of slice ``z``, phase ``t`` hold."""
    return 100 + 200 * z + 5 * t


def pixels(z: int, t: int, shape: tuple[int, int] = (ROWS, COLUMNS)) -> np.ndarray:
    """The image of slice ``z``, phase ``t``."""
    array = np.full(shape, value(z, t), dtype=np.uint16)
    array[0, 0] += 50
    array[-1, :] -= 7
    return array


def image(z: int, t: int, shape: Shape, *, series: str = "1", number: int = 1) -> Dataset:
    """One classic MR image."""
    ds = Dataset()
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    ds.SOPInstanceUID = f"2.25.{series}.{z + 1}.{t + 1}"
    ds.StudyInstanceUID = "2.25.9"
    ds.SeriesInstanceUID = f"2.25.9.{series}"
    ds.SeriesNumber = number
    ds.AcquisitionNumber = 1
    ds.InstanceNumber = z * shape.phases + t + 1
    ds.Modality = "MR"
    ds.Manufacturer = "SIEMENS"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = "DOE^JANE", "H-4711", "19520229"
    ds.InstitutionName = "General Hospital"
    ds.SeriesDescription = "cine"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    ds.ScanningSequence, ds.SequenceVariant = "GR", ["SK", "SS"]
    ds.MagneticFieldStrength = "1.5"
    ds.SliceThickness = "8"
    ds.NominalInterval = int(shape.rr_ms)
    ds.TriggerTime = f"{t * shape.rr_ms / shape.phases:.4f}"
    ds.AcquisitionDate, ds.AcquisitionTime = "20200101", f"10{number:02d}{z:02d}"
    ds.ImageOrientationPatient = [f"{v:.10f}" for v in (*ROW, *COLUMN)]
    ds.ImagePositionPatient = [f"{v:.8f}" for v in ORIGIN + z * shape.distance_mm * NORMAL]
    ds.PixelSpacing = list(SPACING)
    ds.Rows, ds.Columns = ROWS, COLUMNS
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    set_pixels(ds, pixels(z, t))
    return ds


def set_pixels(ds: Dataset, array: np.ndarray) -> None:
    """Put an array in as native 16-bit pixels."""
    ds.Rows, ds.Columns = array.shape
    ds.PixelData = np.ascontiguousarray(array).astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"


def tiny(shape: Shape | None = None, **series: object) -> Images:
    """All images of a cine by (slice, phase)."""
    shape = shape or Shape()
    return {
        (z, t): image(z, t, shape, **series)  # type: ignore[arg-type]
        for z in range(shape.slices)
        for t in range(shape.phases)
    }


# Slice and phase of every image of the usual tiny cine, as `which` gives them.
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


VENDORS = {"siemens": _siemens, "philips": _philips, "ge": _ge}


def vendor_images(vendor: str, shape: Shape | None = None) -> Images:
    """A tiny cine in the form of one of `VENDORS`, with a frame of reference."""
    made = each(tiny(shape), VENDORS[vendor])
    return each(made, lambda _z, _t, ds: setattr(ds, "FrameOfReferenceUID", "2.25.31"))


def turned(ds: Dataset, row: np.ndarray, column: np.ndarray) -> Dataset:
    """The image with other directions of its rows and columns."""
    ds.ImageOrientationPatient = [f"{v:.10f}" for v in (*row, *column)]
    return ds


def tilted(ds: Dataset, degrees: float) -> Dataset:
    """The image tilted about its rows."""
    angle = np.deg2rad(degrees)
    return turned(ds, ROW, np.cos(angle) * COLUMN + np.sin(angle) * NORMAL)


def each(images: Images, change: Callable[[int, int, Dataset], object]) -> Images:
    """The images after ``change(z, t, dataset)`` of each."""
    for (z, t), ds in images.items():
        change(z, t, ds)
    return images


def move(ds: Dataset, millimetres: np.ndarray) -> None:
    """Shift an image in the patient."""
    place = np.array(ds.ImagePositionPatient, dtype=float) + millimetres
    ds.ImagePositionPatient = [f"{v:.8f}" for v in place]


def of_person(images: Images, number: int) -> Images:
    """The images of another person: name, id, examination and pixels."""

    def change(z: int, t: int, ds: Dataset) -> None:
        ds.PatientName, ds.PatientID = f"Heart^{number}", f"H-{number}"
        ds.PatientBirthDate = f"19{10 + number % 80}0229"
        ds.StudyInstanceUID = f"2.25.9{number}"
        set_pixels(ds, pixels(z, t, (ds.Rows, ds.Columns)) + number)

    return each(images, change)


def encode(ds: Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    """One data set as a DICOM file."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", "1.2.3")
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", "1.2.3") or "1.2.3"
    stream = io.BytesIO()
    dcmwrite(stream, ds, enforce_file_format=True)
    return stream.getvalue()


def files(images: Images | Iterable[Dataset]) -> dict[str, bytes]:
    """Images as files by name."""
    sets = list(images.values()) if isinstance(images, Mapping) else list(images)
    return {f"{number:05d}": encode(ds) for number, ds in enumerate(sets)}


def put(folder: Path, contents: Mapping[str, bytes]) -> Path:
    """Write files below a folder."""
    for name, data in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def read(path: Path, series_regex: str | None = None) -> CineStack:
    """Read one folder, zip or file."""
    source = ScanSource(kind="images", paths=(path,))
    return read_cine(source, ReadOptions(series_regex=series_regex))


def read_images(folder: Path, images: Images | Iterable[Dataset], **more: bytes) -> CineStack:
    """Write images and read them."""
    put(folder, {**files(images), **more})
    return read(folder)


def which(cine: CineStack) -> list[list[Key]]:
    """Slice and phase of each image of a stack ``[t][z]``, from its pixels alone."""
    return [
        [(n // 200, n % 200 // 5) for n in (round(float(a[1, 1])) - 100 for a in phase)]
        for phase in cine.pixels
    ]


def codes(cine: CineStack) -> dict[str, str]:
    """Flags by code, with their level."""
    return {flag.code: flag.level for flag in cine.source.flags}


def left(cine: CineStack) -> dict[str, int]:
    """What was left out, by code."""
    return {item.code: item.count for item in cine.source.left_out}
