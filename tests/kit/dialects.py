"""One phantom heart in the dialect of each scanner, archive and anonymiser.

``DIALECTS[name](cine)`` gives the files by relative path. All hold the same pixels, places and
phases, so a reader must make the same stack of each; `label_stack` finds every image of a stack in
the phantom by its pixels and gives its known labels.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import gdcm
import numpy as np
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from cardiometa.imaging.headers import decimal
from cardiometa.imaging.nifti import nifti_bytes
from cardiometa.phantom.image import PhantomCine
from cardiometa.phantom.write import PhantomHeader, dicom_files, encode, frame_dataset, phantom_uid

Files = dict[str, bytes]
HEADER = PhantomHeader(pseudonym="pseudonym-7")
_ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"


def frames(cine: PhantomCine) -> Iterator[tuple[int, int, Dataset]]:
    """Slice, phase and classic data set of every image, slices outermost."""
    for z in range(cine.grid.slices):
        for t in range(cine.grid.frames):
            yield z, t, frame_dataset(cine, HEADER, z, t)


def changed(cine: PhantomCine, change: Callable[[int, int, Dataset], None]) -> Files:
    """The Siemens files after ``change`` of each data set."""
    files = {}
    for z, t, dataset in frames(cine):
        change(z, t, dataset)
        files[f"series_{z:02d}/{t:04d}.dcm"] = encode(dataset)
    return files


def without(cine: PhantomCine, *keywords: str) -> Files:
    """The Siemens files without these tags."""

    def drop(_z: int, _t: int, dataset: Dataset) -> None:
        for keyword in keywords:
            if keyword in dataset:
                delattr(dataset, keyword)

    return changed(cine, drop)


# ------------------------------------------------------------------ vendors


def siemens(cine: PhantomCine) -> Files:
    """One series a slice, TriggerTime from the R wave."""
    return dicom_files(cine, HEADER)


def philips(cine: PhantomCine) -> Files:
    """One series, slices innermost; TriggerTime runs on from the start of the scan."""

    def change(z: int, t: int, dataset: Dataset) -> None:
        _philips(cine, z, t, dataset)
        dataset.TriggerTime = decimal(z * 9000.0 + round(float(cine.frame_times_ms[t]), 3))

    return changed(cine, change)


def philips_trigger_zero(cine: PhantomCine) -> Files:
    """As Philips, but TriggerTime is zero in all images."""

    def change(z: int, t: int, dataset: Dataset) -> None:
        _philips(cine, z, t, dataset)
        dataset.TriggerTime = "0"

    return changed(cine, change)


def _philips(cine: PhantomCine, z: int, t: int, dataset: Dataset) -> None:
    _one_series(cine, dataset)
    dataset.Manufacturer = "Philips Medical Systems"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"]
    dataset.TemporalPositionIdentifier = t + 1
    dataset.NumberOfTemporalPositions = cine.grid.frames
    dataset.InstanceNumber = t * cine.grid.slices + z + 1
    dataset.SequenceVariant = ["SS", "SP"]
    del dataset.SequenceName


def ge(cine: PhantomCine) -> Files:
    """One series of all slices, images numbered through, an empty per-frame sequence, signed."""
    files = {}
    for z, t, dataset in frames(cine):
        _one_series(cine, dataset)
        number = z * cine.grid.frames + t + 1
        dataset.Manufacturer = "GE MEDICAL SYSTEMS"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        dataset.SequenceVariant = "SS"
        dataset.ScanOptions = ["FAST_GEMS", "SEQ_GEMS", "CG"]
        dataset.InstanceNumber = number
        dataset.TemporalResolution = "40000"
        dataset.ImagesInAcquisition = cine.grid.frames * cine.grid.slices
        dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 1, 16, 15
        dataset.PerFrameFunctionalGroupsSequence = Sequence([Dataset()])
        del dataset.SequenceName
        files[f"{number}.dcm"] = encode(dataset)
    return files


def _one_series(cine: PhantomCine, dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = phantom_uid(cine, HEADER, "series")
    dataset.SeriesNumber = 300
    dataset.SeriesTime = "100000"


def enhanced(cine: PhantomCine) -> Files:
    """Everything in one enhanced multi-frame object, phases innermost."""
    return {"IM_0001": _enhanced(cine, range(cine.grid.slices), phases_inner=True)}


def enhanced_slices_inner(cine: PhantomCine) -> Files:
    """One enhanced object with the slices innermost."""
    return {"IM_0001": _enhanced(cine, range(cine.grid.slices), phases_inner=False)}


def enhanced_per_slice(cine: PhantomCine) -> Files:
    """One enhanced object a slice (XA60)."""
    return {
        f"IM_{z:04d}": _enhanced(cine, range(z, z + 1), phases_inner=True)
        for z in range(cine.grid.slices)
    }


def _enhanced(cine: PhantomCine, slices: range, *, phases_inner: bool) -> bytes:
    order = [(z, t) for z in slices for t in range(cine.grid.frames)]
    if not phases_inner:
        order.sort(key=lambda place: (place[1], place[0]))
    classic = frame_dataset(cine, HEADER, slices[0], 0)
    dataset = Dataset()
    for element in classic:
        keep = element.tag.group in (0x0008, 0x0010, 0x0020, 0x0028, 0x0012)
        if keep and element.keyword not in (
            "ImagePositionPatient",
            "ImageOrientationPatient",
            "PixelSpacing",
        ):
            dataset[element.tag] = element
    dataset.SOPClassUID = _ENHANCED_MR
    dataset.SOPInstanceUID = phantom_uid(cine, HEADER, "enhanced", slices[0])
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "CARDIAC", "NONE"]
    dataset.AcquisitionDateTime = "20000101100000"
    dataset.PulseSequenceName = "B-TFE"
    dataset.EchoPulseSequence = "GRADIENT"
    dataset.SteadyStatePulseSequence = "FREE_PRECESSION"
    dataset.MRAcquisitionType = "2D"
    dataset.ComplexImageComponent = "MAGNITUDE"
    dataset.PhaseContrast = "NO"
    dataset.Tagging = "NONE"
    dataset.MagneticFieldStrength = cine.sequence.field_strength_t
    dataset.NumberOfFrames = len(order)
    dataset.InstanceNumber = 1
    dataset.SharedFunctionalGroupsSequence = Sequence([_shared_groups(classic)])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(
        [_frame_groups(cine, z, t) for z, t in order]
    )
    dataset.PixelData = b"".join(cine.pixels[t, z].astype("<u2").tobytes() for z, t in order)
    dataset["PixelData"].VR = "OW"
    return encode(dataset)


def _item(**values: object) -> Sequence:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return Sequence([dataset])


def _shared_groups(classic: Dataset) -> Dataset:
    shared = Dataset()
    shared.PixelMeasuresSequence = _item(
        SliceThickness=classic.SliceThickness, PixelSpacing=classic.PixelSpacing
    )
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=classic.ImageOrientationPatient)
    shared.MRImageFrameTypeSequence = _item(
        FrameType=["ORIGINAL", "PRIMARY", "CARDIAC", "NONE"], ComplexImageComponent="MAGNITUDE"
    )
    shared.PixelValueTransformationSequence = _item(
        RescaleIntercept="0", RescaleSlope="1", RescaleType="US"
    )
    return shared


def _frame_groups(cine: PhantomCine, z: int, t: int) -> Dataset:
    groups = Dataset()
    groups.FrameContentSequence = _item(
        StackID="1",
        InStackPositionNumber=z + 1,
        TemporalPositionIndex=t + 1,
        DimensionIndexValues=[z + 1, t + 1],
    )
    groups.PlanePositionSequence = _item(
        ImagePositionPatient=[decimal(round(v, 8)) for v in cine.grid.position_lps_mm(z)]
    )
    groups.CardiacSynchronizationSequence = _item(
        NominalCardiacTriggerDelayTime=float(cine.frame_times_ms[t]),
        RRIntervalTimeNominal=float(cine.phantom.rr_ms),
    )
    return groups


def nifti_frames(cine: PhantomCine, name: str = "cine") -> Files:
    """``name_frame01.nii.gz`` …: one 3-D volume per phase."""
    affine = cine.grid.affine_ras
    return {
        f"{name}_frame{t + 1:02d}.nii.gz": nifti_bytes(volume.astype(np.int16), affine)
        for t, volume in enumerate(cine.pixels)
    }


# ------------------------------------------------------------------ tags missing or wrong


def no_trigger_time(cine: PhantomCine) -> Files:
    """InstanceNumber is all that orders the phases: times are those of the slice."""

    def change(_z: int, _t: int, dataset: Dataset) -> None:
        del dataset.TriggerTime
        dataset.ContentTime = dataset.AcquisitionTime

    return changed(cine, change)


def no_slice_thickness(cine: PhantomCine) -> Files:
    """Neither SliceThickness nor SpacingBetweenSlices: only positions tell the distance."""
    return without(cine, "SliceThickness", "SpacingBetweenSlices", "CardiacNumberOfImages")


def anonymised(cine: PhantomCine) -> Files:
    """Dates, times, texts and UIDs of study and series blanked; every file a series of its own."""
    gone = ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime", "SeriesDate")
    gone += ("AcquisitionDate", "ContentDate", "SeriesDescription", "ProtocolName", "Manufacturer")

    def change(z: int, t: int, dataset: Dataset) -> None:
        for keyword in gone:
            delattr(dataset, keyword)
        dataset.SeriesInstanceUID = phantom_uid(cine, HEADER, "own series", z, t)

    return changed(cine, change)


def one_uid_for_all(cine: PhantomCine) -> Files:
    """An anonymiser gave every image the same SOPInstanceUID."""

    def change(_z: int, _t: int, dataset: Dataset) -> None:
        dataset.SOPInstanceUID = "2.25.1"

    return changed(cine, change)


def wrong_spacing_between_slices(cine: PhantomCine) -> Files:
    """SpacingBetweenSlices holds the gap and SliceThickness another number."""

    def change(_z: int, _t: int, dataset: Dataset) -> None:
        dataset.SpacingBetweenSlices = "2"
        dataset.SliceThickness = "5"

    return changed(cine, change)


def declared_phases_wrong(cine: PhantomCine) -> Files:
    """CardiacNumberOfImages is not the number of phases."""

    def change(_z: int, _t: int, dataset: Dataset) -> None:
        dataset.CardiacNumberOfImages = 7

    return changed(cine, change)


# ------------------------------------------------------------------ order and repeats


def reversed_names(cine: PhantomCine) -> Files:
    """File names and series numbers run against place and time."""
    files = {}
    for z, t, dataset in frames(cine):
        dataset.SeriesNumber = 100 - z
        files[f"{cine.grid.slices - z:03d}/{cine.grid.frames - t:03d}"] = encode(dataset)
    return files


def shuffled_names(cine: PhantomCine) -> Files:
    """One flat folder, names drawn at random, instance numbers too."""
    total = cine.grid.slices * cine.grid.frames
    order = np.random.default_rng(5).permutation(total)
    files = {}
    for number, (_, _, dataset) in enumerate(frames(cine)):
        dataset.InstanceNumber = int(order[number]) + 1
        files[f"{order[::-1][number]:05d}"] = encode(dataset)
    return files


def repeated_slice(cine: PhantomCine) -> Files:
    """A blurred first try of one slice before the good one, and a broken-off one after."""
    files = siemens(cine)
    z = cine.grid.slices // 2
    for t in range(cine.grid.frames):
        early = frame_dataset(cine, HEADER, z, t)
        _other_try(cine, early, "early", 90, "095900.000000")
        early.PixelData = np.full_like(cine.pixels[t, z], 100).astype("<u2").tobytes()
        files[f"early/{t:03d}.dcm"] = encode(early)
        if t < cine.grid.frames * 3 // 4:
            late = frame_dataset(cine, HEADER, z + 1, t)
            _other_try(cine, late, "late", 91, "103000.000000")
            late.PixelData = np.full_like(cine.pixels[t, z], 200).astype("<u2").tobytes()
            files[f"late/{t:03d}.dcm"] = encode(late)
    return files


def _other_try(cine: PhantomCine, dataset: Dataset, role: str, number: int, time: str) -> None:
    dataset.SeriesInstanceUID = phantom_uid(cine, HEADER, role)
    dataset.SOPInstanceUID = phantom_uid(cine, HEADER, role, int(dataset.InstanceNumber))
    dataset.SeriesNumber = number
    dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = time


def same_files_twice(cine: PhantomCine) -> Files:
    """Every file again in another folder."""
    files = siemens(cine)
    return files | {f"copy/{name}": data for name, data in files.items()}


def with_other_things(cine: PhantomCine) -> Files:
    """A long-axis cine, late enhancement at the same places, a text and an empty file beside."""
    files = siemens(cine) | {"README.txt": b"exported on a Tuesday", "empty.dcm": b""}
    for t in range(cine.grid.frames):
        long_axis = frame_dataset(cine, HEADER, 0, t)
        _other_try(cine, long_axis, "long axis", 5, "095500.000000")
        row = [float(v) for v in long_axis.ImageOrientationPatient[:3]]
        apex = [float(v) for v in cine.grid.heart_axes[2]]
        long_axis.ImageOrientationPatient = [decimal(round(v, 10)) for v in (*row, *apex)]
        long_axis.SeriesDescription = "cine 4ch"
        files[f"long_axis/{t:03d}.dcm"] = encode(long_axis)
    for z in range(cine.grid.slices):
        late = frame_dataset(cine, HEADER, z, 0)
        _other_try(cine, late, "enhancement", 50, "104000.000000")
        late.SOPInstanceUID = phantom_uid(cine, HEADER, "enhancement", z)
        late.InversionTime = "280"
        late.SequenceVariant = ["SK", "MP"]
        late.SeriesDescription = "LGE sax"
        files[f"enhancement/{z:03d}.dcm"] = encode(late)
    return files


# ------------------------------------------------------------------ numbers and bytes


def rescaled(cine: PhantomCine) -> Files:
    """Slope 0.5 and intercept −100: stored values are twice the true ones plus 200."""

    def change(z: int, t: int, dataset: Dataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = "0.5", "-100"
        dataset.BitsStored, dataset.HighBit = 16, 15
        dataset.PixelData = (cine.pixels[t, z].astype("<u2") * 2 + 200).tobytes()

    return changed(cine, change)


def signed_twelve_in_sixteen(cine: PhantomCine) -> Files:
    """Signed 12 bits: stored values below zero, and rubbish in the four unused bits."""

    def change(z: int, t: int, dataset: Dataset) -> None:
        stored = cine.pixels[t, z].astype(np.int32) - 1000
        dataset.PixelRepresentation = 1
        dataset.RescaleSlope, dataset.RescaleIntercept = "1", "1000"
        dataset.PixelData = ((stored & 0x0FFF) | 0x5000).astype("<u2").tobytes()

    return changed(cine, change)


def monochrome1(cine: PhantomCine) -> Files:
    """Black is the largest stored value."""

    def change(z: int, t: int, dataset: Dataset) -> None:
        dataset.PhotometricInterpretation = "MONOCHROME1"
        dataset.PixelData = (4095 - cine.pixels[t, z]).astype("<u2").tobytes()

    return changed(cine, change)


def implicit_little_endian(cine: PhantomCine) -> Files:
    """Implicit VR little endian."""
    return _encoded(cine, ImplicitVRLittleEndian)


def deflated(cine: PhantomCine) -> Files:
    """Deflated explicit little endian."""
    return _encoded(cine, DeflatedExplicitVRLittleEndian)


def _encoded(cine: PhantomCine, syntax: str) -> Files:
    return {f"{z:02d}/{t:03d}.dcm": encode(dataset, syntax) for z, t, dataset in frames(cine)}


def big_endian(cine: PhantomCine) -> Files:
    """Explicit VR big endian (retired, still in archives)."""
    files = {}
    for z, t, dataset in frames(cine):
        dataset.PixelData = cine.pixels[t, z].astype(">u2").tobytes()
        files[f"{z:02d}/{t:03d}.dcm"] = encode(dataset, ExplicitVRBigEndian)
    return files


def no_preamble(cine: PhantomCine) -> Files:
    """A bare data set: no preamble, no meta header, no extension."""
    files = {}
    for z, t, dataset in frames(cine):
        stream = io.BytesIO()
        dcmwrite(stream, dataset, implicit_vr=True, little_endian=True)
        files[f"{z:02d}/{t:03d}"] = stream.getvalue()
    return files


def meta_without_preamble(cine: PhantomCine) -> Files:
    """A meta header at byte 0, without the preamble before it."""
    return {name: data[132:] for name, data in siemens(cine).items()}


def zipped(cine: PhantomCine) -> Files:
    """One zip of all files, in folders."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in ge(cine).items():
            archive.writestr(f"export/dicom/{name}", data)
    return {"export.zip": stream.getvalue()}


def rle(cine: PhantomCine) -> Files:
    """Run-length encoded by pydicom."""
    files = {}
    for z, t, dataset in frames(cine):
        encode(dataset)
        dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        stream = io.BytesIO()
        dcmwrite(stream, dataset, enforce_file_format=True)
        files[f"{z:02d}/{t:03d}.dcm"] = stream.getvalue()
    return files


def jpeg_lossless(cine: PhantomCine) -> Files:
    """JPEG lossless, first-order prediction (SV1), by GDCM."""
    return _by_gdcm(cine, gdcm.TransferSyntax.JPEGLosslessProcess14_1)


def jpeg_ls(cine: PhantomCine) -> Files:
    """JPEG-LS lossless, by GDCM."""
    return _by_gdcm(cine, gdcm.TransferSyntax.JPEGLSLossless)


def jpeg_2000(cine: PhantomCine) -> Files:
    """JPEG 2000 lossless, by GDCM."""
    return _by_gdcm(cine, gdcm.TransferSyntax.JPEG2000Lossless)


def _by_gdcm(cine: PhantomCine, syntax: int) -> Files:
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        plain, packed = str(Path(folder, "plain")), str(Path(folder, "packed"))
        for name, data in siemens(cine).items():
            Path(plain).write_bytes(data)
            reader = gdcm.ImageReader()
            reader.SetFileName(plain)
            assert reader.Read()
            change = gdcm.ImageChangeTransferSyntax()
            change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
            change.SetInput(reader.GetImage())
            assert change.Change()
            writer = gdcm.ImageWriter()
            writer.SetFile(reader.GetFile())
            writer.SetFileName(packed)
            writer.SetImage(change.GetOutput())
            assert writer.Write()
            files[name] = Path(packed).read_bytes()
    return files


DIALECTS: dict[str, Callable[[PhantomCine], Files]] = {
    function.__name__: function
    for function in (
        siemens,
        philips,
        philips_trigger_zero,
        ge,
        enhanced,
        enhanced_slices_inner,
        enhanced_per_slice,
        no_trigger_time,
        no_slice_thickness,
        anonymised,
        one_uid_for_all,
        wrong_spacing_between_slices,
        declared_phases_wrong,
        reversed_names,
        shuffled_names,
        repeated_slice,
        same_files_twice,
        with_other_things,
        rescaled,
        signed_twelve_in_sixteen,
        monochrome1,
        implicit_little_endian,
        deflated,
        big_endian,
        no_preamble,
        meta_without_preamble,
        zipped,
        rle,
        jpeg_lossless,
        jpeg_ls,
        jpeg_2000,
    )
}


# ------------------------------------------------------------------ known labels of a stack


def write_files(folder: Path, files: Files) -> Path:
    """Write the files below ``folder`` and return it."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def source_index(cine: PhantomCine, pixels: np.ndarray) -> np.ndarray:
    """Which phase and slice of the phantom each image of ``pixels [t, z, y, x]`` is, ``[t, z, 2]``.

    Raises KeyError for an image that is not of the phantom to the last bit.
    """
    known = {
        cine.pixels[t, z].astype(np.float32).tobytes(): (t, z)
        for t in range(cine.grid.frames)
        for z in range(cine.grid.slices)
    }
    return np.array(
        [[known[np.ascontiguousarray(p, np.float32).tobytes()] for p in frame] for frame in pixels]
    )


def label_stack(cine: PhantomCine, pixels: np.ndarray) -> np.ndarray:
    """Known labels ``[t, z, y, x]`` of a stack that was read."""
    index = source_index(cine, pixels)
    return cine.labels[index[..., 0], index[..., 1]]


def volumes_ml(labels: np.ndarray, area_mm2: float, weights_mm: np.ndarray) -> np.ndarray:
    """Volumes of structures 1, 2, 3 ``[3, t]``: Σ area × the length each slice stands for."""
    counts = np.stack([(labels == k).sum(axis=(2, 3)) for k in (1, 2, 3)])
    return counts @ weights_mm * area_mm2 / 1000
