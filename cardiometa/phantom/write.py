"""Phantom cines as files: classic DICOM with one series per slice, as Siemens writes, or NIfTI.

Nothing is random: UIDs are hashes of the pseudonym, the study and the phantom, dates are fixed, and
PatientName and PatientID are the pseudonym given; the bytes depend on the arguments alone.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..imaging.headers import decimal
from ..imaging.nifti import nifti_bytes
from .image import PhantomCine

_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
_EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
_DATE = "20000101"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomHeader:
    """What the files say about who and where; ``study`` distinguishes visits of one pseudonym."""

    pseudonym: str = "phantom"
    study: str = "baseline"
    manufacturer: str = "SIEMENS"
    description: str = "cine sax bssfp (synthetic phantom)"


def phantom_uid(cine: PhantomCine, header: PhantomHeader, *role: object) -> str:
    """A UID below 2.25 that depends on the phantom, the header and the role alone."""
    text = repr((cine.phantom, cine.grid, cine.sequence, header.pseudonym, header.study, role))
    return f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:15], 'big')}"


def frame_dataset(cine: PhantomCine, header: PhantomHeader, z: int, t: int) -> Any:
    """One phase of one slice as a pydicom ``Dataset``, uncompressed, little endian."""
    from pydicom.dataset import Dataset

    grid, sequence = cine.grid, cine.sequence
    along_row, along_column, _ = grid.directions
    # Breath-holds follow each other every 20 seconds.
    minute, second = divmod(20 * z, 60)
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "RETRO", "NORM", "DIS2D"]
    dataset.SOPClassUID = _MR_IMAGE
    dataset.SOPInstanceUID = phantom_uid(cine, header, "image", z, t)
    dataset.StudyInstanceUID = phantom_uid(cine, header, "study")
    dataset.SeriesInstanceUID = phantom_uid(cine, header, "series", z)
    dataset.FrameOfReferenceUID = phantom_uid(cine, header, "place")
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = _DATE
    dataset.StudyTime = "100000"
    dataset.SeriesTime = dataset.AcquisitionTime = f"10{minute:02d}{second:02d}.000000"
    dataset.ContentTime = f"10{minute:02d}{second + 10:02d}.{t * 1000:06d}"
    dataset.Modality, dataset.Manufacturer = "MR", header.manufacturer
    dataset.ManufacturerModelName = "synthetic phantom"
    dataset.SeriesDescription = dataset.ProtocolName = header.description
    dataset.PatientName = dataset.PatientID = header.pseudonym
    dataset.PatientBirthDate = dataset.PatientSex = dataset.StudyID = ""
    dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.PatientIdentityRemoved, dataset.PatientPosition = "YES", "HFS"
    dataset.SeriesNumber, dataset.AcquisitionNumber, dataset.InstanceNumber = 10 + z, 1, t + 1
    dataset.ScanningSequence, dataset.SequenceVariant = "GR", ["SK", "SS"]
    dataset.ScanOptions, dataset.MRAcquisitionType, dataset.SequenceName = "RG", "2D", "*tfi2d1_15"
    dataset.RepetitionTime, dataset.EchoTime = decimal(sequence.tr_ms), decimal(sequence.tr_ms / 2)
    dataset.FlipAngle = decimal(sequence.flip_deg)
    dataset.NumberOfAverages, dataset.EchoTrainLength, dataset.ImagedNucleus = "1", 1, "1H"
    dataset.MagneticFieldStrength = decimal(sequence.field_strength_t)
    dataset.TriggerTime = decimal(round(float(cine.frame_times_ms[t]), 4))
    dataset.NominalInterval = round(cine.phantom.rr_ms)
    dataset.HeartRate = round(cine.phantom.heart_rate_bpm)
    dataset.CardiacNumberOfImages = grid.frames
    dataset.SliceThickness = decimal(grid.thickness_mm)
    dataset.SpacingBetweenSlices = decimal(grid.slice_distance_mm)
    dataset.ImagePositionPatient = [decimal(round(v, 8)) for v in grid.position_lps_mm(z)]
    cosines = [decimal(round(float(v), 10)) for v in (*along_row, *along_column)]
    dataset.ImageOrientationPatient = cosines
    dataset.PixelSpacing = [decimal(grid.row_spacing_mm), decimal(grid.column_spacing_mm)]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = grid.rows, grid.columns
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.PixelData = cine.pixels[t, z].astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def encode(dataset: Any, transfer_syntax: str = _EXPLICIT_LITTLE) -> bytes:
    """A data set as a file: preamble, meta header, by default explicit little endian."""
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
    """The cine as files by relative path: ``series_10/0001.dcm`` …, one series per slice."""
    header = header or PhantomHeader()
    return {
        f"series_{10 + z}/{t + 1:04d}.dcm": encode(frame_dataset(cine, header, z, t))
        for z in range(cine.grid.slices)
        for t in range(cine.grid.frames)
    }


def _nifti(cine: PhantomCine, values: np.ndarray, frame_ms: float | None = None) -> bytes:
    affine = cine.grid.affine_ras
    return nifti_bytes(values, affine, frame_ms=frame_ms, description="synthetic phantom")


def nifti_4d(cine: PhantomCine, name: str = "cine") -> dict[str, bytes]:
    """``name.nii.gz``: x, y, z, t with the frame's length in ms."""
    frame_ms = cine.phantom.rr_ms / cine.grid.frames
    return {f"{name}.nii.gz": _nifti(cine, cine.pixels.astype(np.int16), frame_ms)}


def nifti_ed_es(
    cine: PhantomCine, name: str = "phantom", *, labels: bool = False
) -> dict[str, bytes]:
    """``name_ED.nii.gz`` and ``name_ES.nii.gz``, with ``labels`` also ``…_gt.nii.gz``."""
    files = {}
    for phase, t in (("ED", cine.truth.ed_frame), ("ES", cine.truth.es_frame)):
        files[f"{name}_{phase}.nii.gz"] = _nifti(cine, cine.pixels[t].astype(np.int16))
        if labels:
            files[f"{name}_{phase}_gt.nii.gz"] = _nifti(cine, cine.labels[t])
    return files
