"""Phantom cines as classic DICOM files: one series a slice, as Siemens scanners write them.

Nothing is drawn by chance: UIDs are hashes of the pseudonym, the study and the phantom, dates are
fixed, and PatientName and PatientID are the pseudonym given. pydicom is imported when called.

Phantom cines as NIfTI: 4-D, one volume a frame, or an ED and ES pair.

nibabel is imported when called; the bytes depend on the cine alone (no time stamps).
"""

from __future__ import annotations

import gzip
import hashlib
import io
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from .image import PhantomCine

_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
_EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
_DATE = "20000101"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomHeader:
    """What the files say about who and where; ``study`` tells visits of one pseudonym apart."""

    pseudonym: str = "phantom"
    study: str = "baseline"
    manufacturer: str = "SIEMENS"
    description: str = "cine sax bssfp (synthetic phantom)"


def phantom_uid(cine: PhantomCine, header: PhantomHeader, *role: object) -> str:
    """A UID below 2.25 that depends on the phantom, the header and the role alone."""
    text = repr((cine.phantom, cine.grid, cine.sequence, header.pseudonym, header.study, role))
    return f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:15], 'big')}"


def decimal(value: float) -> str:
    """A DICOM decimal string: at most 16 characters."""
    for digits in range(12, 5, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    raise ValueError(f"{value} does not fit a decimal string")


def frame_dataset(cine: PhantomCine, header: PhantomHeader, z: int, t: int) -> Any:
    """One phase of one slice as a pydicom ``Dataset``, uncompressed, little endian."""
    from pydicom.dataset import Dataset

    dataset = Dataset()
    _identity(dataset, cine, header, z, t)
    _acquisition(dataset, cine, t)
    _geometry(dataset, cine, z)
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = cine.grid.rows, cine.grid.columns
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.PixelData = cine.pixels[t, z].astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def _identity(dataset: Any, cine: PhantomCine, header: PhantomHeader, z: int, t: int) -> None:
    number = z * cine.grid.frames + t
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "RETRO", "NORM", "DIS2D"]
    dataset.SOPClassUID = _MR_IMAGE
    dataset.SOPInstanceUID = phantom_uid(cine, header, "image", z, t)
    dataset.StudyInstanceUID = phantom_uid(cine, header, "study")
    dataset.SeriesInstanceUID = phantom_uid(cine, header, "series", z)
    dataset.FrameOfReferenceUID = phantom_uid(cine, header, "place")
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = _DATE
    # Breath-holds follow each other every 20 seconds.
    minute, second = divmod(20 * z, 60)
    dataset.StudyTime = "100000"
    dataset.SeriesTime = dataset.AcquisitionTime = f"10{minute:02d}{second:02d}.000000"
    dataset.ContentTime = f"10{minute:02d}{second + 10:02d}.{t * 1000:06d}"
    dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.Modality = "MR"
    dataset.Manufacturer = header.manufacturer
    dataset.ManufacturerModelName = "synthetic phantom"
    dataset.SeriesDescription = dataset.ProtocolName = header.description
    dataset.PatientName = dataset.PatientID = header.pseudonym
    dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.PatientIdentityRemoved = "YES"
    dataset.StudyID = ""
    dataset.SeriesNumber = 10 + z
    dataset.AcquisitionNumber = 1
    dataset.InstanceNumber = number - z * cine.grid.frames + 1


def _acquisition(dataset: Any, cine: PhantomCine, t: int) -> None:
    sequence, rr_ms = cine.sequence, cine.phantom.rr_ms
    dataset.ScanningSequence = "GR"
    dataset.SequenceVariant = ["SK", "SS"]
    dataset.ScanOptions = "RG"
    dataset.MRAcquisitionType = "2D"
    dataset.SequenceName = "*tfi2d1_15"
    dataset.RepetitionTime = decimal(sequence.tr_ms)
    dataset.EchoTime = decimal(sequence.tr_ms / 2)
    dataset.FlipAngle = decimal(sequence.flip_deg)
    dataset.NumberOfAverages = "1"
    dataset.EchoTrainLength = 1
    dataset.ImagedNucleus = "1H"
    dataset.MagneticFieldStrength = decimal(sequence.field_strength_t)
    dataset.TriggerTime = decimal(round(float(cine.frame_times_ms[t]), 4))
    dataset.NominalInterval = round(rr_ms)
    dataset.HeartRate = round(cine.phantom.heart_rate_bpm)
    dataset.CardiacNumberOfImages = cine.grid.frames
    dataset.PatientPosition = "HFS"


def _geometry(dataset: Any, cine: PhantomCine, z: int) -> None:
    grid = cine.grid
    along_row, along_column, _ = grid.directions
    dataset.SliceThickness = decimal(grid.thickness_mm)
    dataset.SpacingBetweenSlices = decimal(grid.slice_distance_mm)
    dataset.ImagePositionPatient = [decimal(round(v, 8)) for v in grid.position_lps_mm(z)]
    dataset.ImageOrientationPatient = [
        decimal(round(float(v), 10)) for v in (*along_row, *along_column)
    ]
    dataset.PixelSpacing = [decimal(grid.row_spacing_mm), decimal(grid.column_spacing_mm)]


def encode(dataset: Any, transfer_syntax: str = _EXPLICIT_LITTLE) -> bytes:
    """A data set as a file: preamble, meta header, explicit little endian unless told."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filewriter import dcmwrite
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(transfer_syntax)
    meta.ImplementationClassUID = UID("2.25.190432110")
    meta.ImplementationVersionName = "CARDIOMETA"
    dataset.file_meta = meta
    stream = io.BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def dicom_files(cine: PhantomCine, header: PhantomHeader | None = None) -> dict[str, bytes]:
    """The cine as files by relative path: ``series_10/0001.dcm`` …, one series a slice."""
    header = header or PhantomHeader()
    return {
        f"series_{10 + z}/{t + 1:04d}.dcm": encode(frame_dataset(cine, header, z, t))
        for z in range(cine.grid.slices)
        for t in range(cine.grid.frames)
    }


def _file(cine: PhantomCine, values: np.ndarray, frame_ms: float = 0.0) -> bytes:
    # values: [z, y, x] or [t, z, y, x]; NIfTI stores x fastest.
    nibabel: Any = import_module("nibabel")

    image = nibabel.Nifti1Image(np.ascontiguousarray(values.T), cine.grid.affine_ras)
    image.set_sform(cine.grid.affine_ras, code=1)
    image.set_qform(cine.grid.affine_ras, code=1)
    image.header.set_xyzt_units("mm", "msec")
    if values.ndim == 4:
        image.header["pixdim"][4] = frame_ms
    image.header["descrip"] = b"synthetic phantom"
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)


def _frame_ms(cine: PhantomCine) -> float:
    return cine.phantom.rr_ms / cine.grid.frames


def nifti_4d(cine: PhantomCine, name: str = "cine") -> dict[str, bytes]:
    """``name.nii.gz``: x, y, z, t with the frame's length in ms."""
    return {f"{name}.nii.gz": _file(cine, cine.pixels.astype(np.int16), _frame_ms(cine))}


def nifti_frames(cine: PhantomCine, name: str = "cine") -> dict[str, bytes]:
    """``name_frame01.nii.gz`` …: one 3-D volume a phase."""
    return {
        f"{name}_frame{t + 1:02d}.nii.gz": _file(cine, volume.astype(np.int16))
        for t, volume in enumerate(cine.pixels)
    }


def nifti_ed_es(
    cine: PhantomCine, name: str = "phantom", *, labels: bool = False
) -> dict[str, bytes]:
    """``name_ED.nii.gz`` and ``name_ES.nii.gz``, with ``labels`` also ``…_gt.nii.gz``."""
    files = {}
    for phase, t in (("ED", cine.truth.ed_frame), ("ES", cine.truth.es_frame)):
        files[f"{name}_{phase}.nii.gz"] = _file(cine, cine.pixels[t].astype(np.int16))
        if labels:
            files[f"{name}_{phase}_gt.nii.gz"] = _file(cine, cine.labels[t])
    return files
