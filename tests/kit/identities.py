"""A person's identity planted everywhere in an input, and the search for it in what comes out.

Every secret is a word that nothing else holds, so that a hit is a leak. `leaks` looks for each in
the ways a program may write it on: other cases, reversed, UTF-16, base64, hex, escapes of URL, HTML
and JSON, the signs of a DICOM name, the ways of writing a day; inside gzip, zip, PNG text chunks,
JPEG comments, Parquet and DICOM.
"""

from __future__ import annotations

import base64
import gzip
import html
import io
import json
import re
import urllib.parse
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

# By what it is; names in DICOM form. None is a word of this program, of DICOM or of English.
SECRETS: Mapping[str, str] = {
    "surname": "Quaxelbrandt",
    "given": "Ottiliane",
    "second": "Zwölfgrüber",
    "birth": "19520229",
    "patient_id": "MRN-88417733X",
    "other_id": "OTHR-5512907Q",
    "accession": "ACC-90217756",
    "institution": "Xyrmholm Infirmary",
    "address": "Vexlingatan 177",
    "physician": "Drumblewick",
    "operator": "Oplontisz",
    "station": "STNQQX77",
    "serial": "SER-66219948Z",
    "phone": "+46-555-0199-77",
    "insurance": "NHS-4445556667",
    "study_uid": "1.2.826.0.1.3680043.8.498.77120955501",
    "series_uid": "1.2.826.0.1.3680043.8.498.77120955502",
    "image_uid": "1.2.826.0.1.3680043.8.498.77120955503",
    "place_uid": "1.2.826.0.1.3680043.8.498.77120955504",
    "study_date": "20190417",
    "study_text": "Glorzniak study",
    "series_text": "sax Wuppelmans cine",
    "comment": "Trellovian comment",
    "private": "Yondermark private",
    "nested": "Kharvesti nested",
    "folder": "Brackenfjord",
    "note": "Morvenhilde",
    "machine_user": "svc-plimsoll",
}
_NAME = f"{SECRETS['surname']}^{SECRETS['given']}^{SECRETS['second']}"


def stuff(dataset: Dataset, number: int) -> None:
    """Put every secret into a data set: plain tags, private ones, sequences in sequences."""
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = _NAME
    dataset.PatientID = SECRETS["patient_id"]
    dataset.PatientBirthDate = SECRETS["birth"]
    dataset.OtherPatientIDs = SECRETS["other_id"]
    dataset.OtherPatientNames = f"{SECRETS['second']}^{SECRETS['given']}"
    dataset.PatientAddress = SECRETS["address"]
    dataset.PatientTelephoneNumbers = SECRETS["phone"]
    dataset.PatientComments = SECRETS["comment"]
    dataset.AccessionNumber = SECRETS["accession"]
    dataset.InstitutionName = SECRETS["institution"]
    dataset.InstitutionAddress = SECRETS["address"]
    dataset.ReferringPhysicianName = f"{SECRETS['physician']}^A"
    dataset.OperatorsName = SECRETS["operator"]
    dataset.StationName = SECRETS["station"]
    dataset.DeviceSerialNumber = SECRETS["serial"]
    dataset.StudyDescription = SECRETS["study_text"]
    dataset.SeriesDescription = dataset.ProtocolName = SECRETS["series_text"]
    dataset.ImageComments = f"{SECRETS['comment']} {SECRETS['surname']}"
    dataset.SequenceName = "*tfi2d1_15"
    dataset.StudyInstanceUID = SECRETS["study_uid"]
    dataset.SeriesInstanceUID = SECRETS["series_uid"]
    dataset.FrameOfReferenceUID = SECRETS["place_uid"]
    dataset.SOPInstanceUID = f"{SECRETS['image_uid']}.{number + 1}"
    dataset.StudyID = SECRETS["accession"][:16]
    day = SECRETS["study_date"]
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = day
    dataset.IssuerOfPatientID = SECRETS["institution"]
    dataset.BurnedInAnnotation = "NO"
    block = dataset.private_block(0x0029, SECRETS["private"][:60], create=True)
    block.add_new(0x01, "LO", SECRETS["private"])
    block.add_new(0x02, "PN", _NAME)
    block.add_new(0x03, "OB", _NAME.encode() + b"\0")
    inner = Dataset()
    inner.ScheduledPerformingPhysicianName = _NAME
    inner.RequestedProcedureDescription = SECRETS["nested"]
    outer = Dataset()
    outer.RequestedProcedureID = SECRETS["accession"][:16]
    outer.ReferencedPatientSequence = [inner]
    dataset.RequestAttributesSequence = [outer]


# ------------------------------------------------------------------ the search


def _spellings(text: str) -> set[str]:
    """A secret as it may be written: other signs between its words, backwards, days."""
    plain = {text, text[::-1]}
    plain |= {re.sub(r"[\s^]+", sign, text) for sign in (*" ^_-.,", "")}
    if re.fullmatch(r"\d{8}", text):
        year, month, day = text[:4], text[4:6], text[6:]
        plain |= {f"{year}{s}{month}{s}{day}" for s in "-./ "}
        plain |= {f"{day}{s}{month}{s}{year}" for s in ("-", ".", "/", "")}
        plain |= {f"{month}{s}{day}{s}{year}" for s in "-/"}
    return plain


def _texts(text: str) -> dict[bytes, str]:
    """Bytes to look for where case does not matter, with what the form is called."""
    found: dict[bytes, str] = {}
    for one in _spellings(text):
        low = one.lower()
        for name, data in (
            ("plain", low.encode()),
            ("upper", low.upper().encode().lower()),
            ("latin-1", low.encode("latin-1", errors="replace")),
            ("hex", one.encode().hex().encode()),
            ("hex of lower case", low.encode().hex().encode()),
            ("url", urllib.parse.quote(low).lower().encode()),
            ("html", html.escape(low).encode()),
            ("json", json.dumps(low)[1:-1].encode()),
        ):
            found.setdefault(data, f"{one} ({name})")
    return found


def _base64(text: str) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    for one in (text, text.upper(), text.lower()):
        for raw in (one.encode(), one.encode("utf-16-le")):
            # Whatever stands before and after, these signs come from the secret alone.
            for shift, head in enumerate((0, 2, 3)):
                whole = base64.b64encode(b"\0" * shift + raw)
                end = -4 if (len(raw) + shift) % 3 else None
                found[whole[head:end]] = f"{one} (base64)"
    return found


_TEXTS = {data: (who, how) for who, t in SECRETS.items() for data, how in _texts(t).items()}
_BASE64 = {data: (who, how) for who, t in SECRETS.items() for data, how in _base64(t).items()}
# Without these bytes UTF-16 reads as plain text, and masks are nearly nothing.
_EMPTY = bytes(range(4))


def leaks(name: str, data: bytes | str) -> list[str]:
    """Where a secret stands in a file or a print-out: ``file: which, in what form``."""
    raw = data.encode() if isinstance(data, str) else data
    found = []
    for place, piece in _pieces(name, raw):
        bare = piece.translate(None, _EMPTY)
        low = bare.lower()
        found += [f"{place}: {who} as {how}" for d, (who, how) in _TEXTS.items() if d in low]
        found += [f"{place}: {who} as {how}" for d, (who, how) in _BASE64.items() if d in bare]
    return found


def leaks_below(folder: Path) -> list[str]:
    """The same of every file and every name below a folder."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        found += leaks(f"the name {name}", name)
        if path.is_file():
            found += leaks(name, path.read_bytes())
    return found


_EMBEDDED = re.compile(rb"base64,([A-Za-z0-9+/=]{16,})")


def _pieces(name: str, data: bytes, depth: int = 0) -> Iterator[tuple[str, bytes]]:
    """The bytes themselves and whatever is packed in them; pixels of pictures left out."""
    if data[:2] == b"\x1f\x8b":
        yield f"{name} gzip header", data[:300]
        yield from _pieces(f"{name} unpacked", gzip.decompress(data), depth + 1)
        return
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        yield from _png_texts(name, data)
        return
    if data[:2] == b"\xff\xd8":
        yield f"{name} JPEG header", data[:4096]
        return
    yield name, _EMBEDDED.sub(b"", data)
    if depth > 3:
        return
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                yield f"{name} member name", member.filename.encode()
                inside = archive.read(member)
                yield from _pieces(f"{name}/{member.filename}", inside, depth + 1)
    if data[:4] == b"PAR1":
        yield from _parquet(name, data)
    if data[128:132] == b"DICM":
        yield from _dicom(name, data)
    for number, match in enumerate(_EMBEDDED.finditer(data)):
        inside = base64.b64decode(match[1] + b"==")
        yield from _pieces(f"{name} embedded {number}", inside, depth + 1)


def _png_texts(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    place = 8
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        place += 12 + length
        if kind not in (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"):
            yield f"{name} chunk {kind.decode('latin-1')}", body
            for start in range(len(body)):
                if body[start : start + 1] == b"\x78":
                    try:
                        yield f"{name} chunk unpacked", zlib.decompress(body[start:])
                    except zlib.error:
                        continue


def _parquet(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(data))
    yield f"{name} cells", json.dumps(table.to_pylist(), default=str, ensure_ascii=False).encode()
    yield f"{name} schema", str(table.schema).encode() + str(table.schema.metadata).encode()


def _dicom(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    from pydicom import dcmread

    dataset = dcmread(io.BytesIO(data))
    texts: list[Any] = []
    for part in (dataset, dataset.file_meta):
        texts += [str(element.value) for element in part.iterall() if element.VR != "OW"]
    yield f"{name} decoded", "\n".join(texts).encode()
