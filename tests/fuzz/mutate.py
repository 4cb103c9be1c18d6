"""Seeded mutations: of bytes, of DICOM elements, of NIfTI headers, of tables, TOML and JSON.

Every function takes a `random.Random` and gives new bytes; the same seed gives the same bytes.
"""

from __future__ import annotations

import copy
import csv
import gzip
import io
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

Mutation = Callable[[Random, bytes], bytes]

EDGES = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\x00\x00", b"\xff\xff", b"\xff\xff\xff\xff", b"\x01")


def of_bytes(rng: Random, data: bytes, most: int = 6) -> bytes:
    """A few local changes anywhere: flipped, overwritten, cut out, put in, repeated, cut off."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, most)):
        if not changed:
            break
        place = rng.randrange(len(changed))
        kind = rng.randrange(8)
        if kind == 0:
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[place] = rng.randrange(256)
        elif kind == 2:
            edge = rng.choice(EDGES)
            changed[place : place + len(edge)] = edge
        elif kind == 3:
            del changed[place : place + rng.choice((1, 2, 4, 16, 256))]
        elif kind == 4:
            changed[place:place] = rng.randbytes(rng.choice((1, 2, 4, 16, 64)))
        elif kind == 5:
            length = rng.choice((1, 4, 16, 128))
            changed[place:place] = changed[place : place + length] * rng.randint(1, 8)
        elif kind == 6:
            other = rng.randrange(len(changed))
            changed[place : place + 8] = changed[other : other + 8]
        elif rng.random() < 0.3:
            del changed[place:]
    return bytes(changed)


# ------------------------------------------------------------------ DICOM

_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT"))
_TEXT_NUMBERS = (
    *(b"0", b"-1", b"1", b"1e308", b"-1e308", b"1e-320", b"nan", b"inf", b"-inf", b"1_000", b""),
    *(b"99999999999999999999", b"2147483648", b"0x10", b"1,5", b" ", b"\x00", b"1\\2", b"\\"),
    *(b"\xd9\xa3", b"1" * 400, b"0.30000000000000004\\1e9\\-0", b"60000", b"1000000000", b"3.5"),
)
_TEXTS = (
    *(b"", b" ", b"\\", b"..\\..\\..", b"/etc/passwd", b"<script>alert(1)</script>", b"=1+1"),
    *(b"\xff\xfe\xfd", b"A" * 5000, b"\x1b[31mred", b"M", b"P", b"DERIVED", b"{}%s%n", b"\x00" * 9),
)
_WORDS = (0, 1, 2, 7, 8, 9, 12, 13, 16, 32, 64, 255, 256, 4096, 4097, 32767, 32768, 60000, 65535)


@dataclass(frozen=True, slots=True)
class Element:
    """One element of an explicit little-endian file: where it starts, its VR, its value."""

    start: int
    vr: bytes
    value: int
    length: int


def elements(data: bytes, start: int = 132) -> list[Element]:
    """All elements, those of sequences too, until one makes no sense."""
    found: list[Element] = []
    place = start
    while place + 8 <= len(data):
        group = struct.unpack_from("<H", data, place)[0]
        vr = data[place + 4 : place + 6]
        if group == 0xFFFE:
            place += 8
            continue
        if vr in _LONG:
            (length,) = (
                struct.unpack_from("<I", data, place + 8) if place + 12 <= len(data) else (0,)
            )
            value = place + 12
        else:
            (length,) = struct.unpack_from("<H", data, place + 6)
            value = place + 8
        inside = vr == b"SQ" or length == 0xFFFFFFFF
        found.append(Element(place, vr, value, 0 if inside else length))
        place = value if inside else value + length
    return found


def of_dicom(rng: Random, data: bytes) -> bytes:
    """Changes of elements as a hostile or broken writer would make them; some plain bytes too."""
    if rng.random() < 0.2:
        return of_bytes(rng, data)
    for _ in range(rng.randint(1, 4)):
        found = [e for e in elements(data) if e.vr not in (b"OW", b"OB") or rng.random() < 0.1]
        if not found:
            return of_bytes(rng, data)
        data = _element(rng, data, rng.choice(found), found)
    return data


def _element(rng: Random, data: bytes, one: Element, others: list[Element]) -> bytes:
    end = one.value + one.length
    kind = rng.randrange(10)
    if kind <= 4:
        value = _value(rng, one.vr, data[one.value : end])
        return data[: one.start] + _header(data, one, len(value)) + value + data[end:]
    if kind == 5:  # a length that lies
        length = rng.choice((0, 1, 3, 0xFFFF, 0xFFFE, one.length + 1, one.length * 2, 0x7FFFFFFF))
        return data[: one.start] + _header(data, one, length) + data[one.value :]
    if kind == 6:  # gone
        return data[: one.start] + data[end:]
    if kind == 7:  # twice
        return data[:end] + data[one.start : end] * rng.randint(1, 3) + data[end:]
    if kind == 8:  # another representation
        vr = rng.choice((b"US", b"SQ", b"DS", b"UN", b"OB", b"PN", b"UI", b"FD", b"AT", b"??"))
        return data[: one.start + 4] + vr + data[one.start + 6 :]
    other = rng.choice(others)  # another tag, or another's value
    if rng.random() < 0.5:
        tag = data[other.start : other.start + 4]
        return data[: one.start] + tag + data[one.start + 4 :]
    value = data[other.value : other.value + other.length]
    return data[: one.start] + _header(data, one, len(value)) + value + data[end:]


def _header(data: bytes, one: Element, length: int) -> bytes:
    head = data[one.start : one.start + 6]
    if one.value - one.start == 12:
        return head + b"\x00\x00" + struct.pack("<I", length & 0xFFFFFFFF)
    return head + struct.pack("<H", length & 0xFFFF)


def _value(rng: Random, vr: bytes, old: bytes) -> bytes:
    if vr in (b"US", b"SS"):
        return struct.pack("<H", rng.choice(_WORDS)) * rng.choice((1, 1, 1, 2, 0))
    if vr in (b"UL", b"SL"):
        return struct.pack("<I", rng.choice((*_WORDS, 2**31 - 1, 2**31, 2**32 - 1)))
    if vr in (b"FD", b"FL"):
        code = "<d" if vr == b"FD" else "<f"
        choices = (0.0, -0.0, 1.0, -1.0, float("nan"), float("inf"), 1e30, -1e30, 1e-38)
        return struct.pack(code, rng.choice(choices))
    if vr in (b"DS", b"IS"):
        parts = [rng.choice(_TEXT_NUMBERS) for _ in range(rng.choice((1, 1, 2, 3, 6)))]
        if rng.random() < 0.5 and old:
            parts = old.strip().split(b"\\")
            parts[rng.randrange(len(parts))] = rng.choice(_TEXT_NUMBERS)
        value = b"\\".join(parts)
    elif rng.random() < 0.3:
        value = of_bytes(rng, old, 2)
    else:
        value = rng.choice((*_TEXTS, *_TEXT_NUMBERS))
    return value + b" " * (len(value) % 2)


def of_pixels(rng: Random, data: bytes) -> bytes:
    """Changes behind the header, in the pixel stream; sometimes in the numbers it hangs on."""
    place = data.find(b"\xe0\x7f\x10\x00")
    if place < 0 or rng.random() < 0.15:
        return of_dicom(rng, data)
    return data[:place] + of_bytes(rng, data[place:], 8)


# ------------------------------------------------------------------ NIfTI

# Offset and code of the numbers of a NIfTI-1 header that reading hangs on.
_NIFTI = (
    *((40 + 2 * i, "<h") for i in range(8)),  # dim
    *((76 + 4 * i, "<f") for i in range(8)),  # pixdim
    *((70, "<h"), (72, "<h"), (108, "<f"), (112, "<f"), (116, "<f"), (252, "<h"), (254, "<h")),
    *((256 + 4 * i, "<f") for i in range(6)),  # quaternion and offset
    *((280 + 4 * i, "<f") for i in range(12)),  # srow
    *((0, "<i"), (123, "<b"), (68, "<h"), (344, "<i")),
)
_NIFTI_NUMBERS = {
    "<h": (-1, 0, 1, 2, 4, 8, 16, 64, 128, 256, 512, 1024, 1536, 1792, 2048, 2304, 32767, -32768),
    "<f": (0.0, -1.0, 1.0, 1e-30, 1e30, float("nan"), float("inf"), 1e9, 348.0, 352.0, -3e38),
    "<i": (0, 348, 540, -1, 2**31 - 1, 0x0031_2B6E),
    "<b": (0, 1, 2, 10, 18, 127, -128),
}


def of_nifti(rng: Random, data: bytes) -> bytes:
    """Header numbers changed, or plain bytes; a compressed file is opened and closed again."""
    packed = data[:2] == b"\x1f\x8b"
    if packed and rng.random() < 0.2:
        return of_bytes(rng, data)
    raw = bytearray(gzip.decompress(data) if packed else data)
    if rng.random() < 0.2:
        raw = bytearray(of_bytes(rng, bytes(raw)))
    else:
        for _ in range(rng.randint(1, 4)):
            place, code = rng.choice(_NIFTI)
            struct.pack_into(code, raw, place, rng.choice(_NIFTI_NUMBERS[code]))
    return gzip.compress(bytes(raw), 1, mtime=0) if packed else bytes(raw)


# ------------------------------------------------------------------ text

_CELLS = (
    *("", " ", "0", "-1", "1e308", "1e999", "nan", "inf", "NA", ".", "1,5", "1.5.2", "'", '"'),
    *(
        '"""',
        "=1+1",
        "@x",
        "001",
        "1.0",
        "true",
        "None",
        "\\",
        "../..",
        "a/b",
        "\x1b[31m",
        "\u202e",
    ),
    *("é", "\x85", "\u2028", "\ufeff", "9" * 400, "x" * 140, "\x0b", "male", "M", "0x1F", "1_0"),
    *("-0.0", "18", "120", "1e-300", "<script>", "a;b", "a|b", "\t", "2020-01-01", "𝟙", "İ", "ß"),
)


def of_table(rng: Random, data: bytes) -> bytes:
    """Cells, rows and columns of a CSV changed; or plain bytes."""
    if rng.random() < 0.25:
        return of_bytes(rng, data)
    rows = list(csv.reader(io.StringIO(data.decode("utf-8"))))
    for _ in range(rng.randint(1, 5)):
        row = rng.choice(rows)
        kind = rng.randrange(9)
        if not row:
            continue
        cell = rng.randrange(len(row))
        if kind <= 3:
            row[cell] = rng.choice(_CELLS)
        elif kind == 4:
            rows.insert(rng.randrange(len(rows) + 1), list(rng.choice(rows)))
        elif kind == 5 and len(rows) > 1:
            rows.remove(row)
        elif kind == 6:
            row.insert(cell, rng.choice(_CELLS))
        elif kind == 7:
            value = rng.choice(_CELLS)
            for other in rows[1:]:
                other[cell : cell + 1] = [value]
        else:
            rows[0][rng.randrange(len(rows[0])) :][:1] = [rng.choice((*_CELLS, *rows[0]))]
            rows[0][rng.randrange(len(rows[0]))] = rng.choice((*_CELLS, *rows[0]))
        if not rows or not rows[0]:
            break
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=rng.choice(("\n", "\n", "\n", "\r\n", "\r")))
    writer.writerows(rows)
    encoding = rng.choice(("utf-8",) * 8 + ("utf-16", "utf-8-sig", "latin-1"))
    return text.getvalue().encode(encoding, errors="replace")


_TOML = (
    *("[", "]", "[[", "{", "}", "=", '"', "'", '"""', "\n", "#", ".", ",", "true", "false", "nan"),
    *("inf", "-1", "0", "1e400", "9" * 30, "2020-01-01", "1979-05-27T07:32:00Z", "[]", "{}", "''"),
    *(
        '"../../etc"',
        '"/abs"',
        '"\\u0000"',
        '"\\ud800"',
        "0x",
        "'''",
        "\x00",
        "\u202e",
        "a.b.c = 1",
    ),
    *("trials = 1\n", "[trials]\n", "[[trials]]\n", '[trials."a/b"]\n', "name = []\n", '["x"]\n'),
)


def of_toml(rng: Random, data: bytes) -> bytes:
    """Tokens put in, taken out and exchanged; or plain bytes."""
    if rng.random() < 0.15:
        return of_bytes(rng, data)
    lines = data.decode("utf-8").splitlines(keepends=True)
    for _ in range(rng.randint(1, 4)):
        number = rng.randrange(len(lines))
        line = lines[number]
        place = rng.randrange(len(line) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            lines[number] = line[:place] + rng.choice(_TOML) + line[place:]
        elif kind == 1 and "=" in line:
            lines[number] = line.partition("=")[0] + "= " + rng.choice(_TOML) + "\n"
        elif kind == 2:
            lines.insert(rng.randrange(len(lines)), rng.choice(lines))
        elif kind == 3 and len(lines) > 1:
            del lines[number]
        elif kind == 4:
            other = rng.choice(lines)
            if "=" in other and "=" in line:
                lines[number] = line.partition("=")[0] + "=" + other.partition("=")[2]
        else:
            depth = rng.choice((3, 50, 2000))
            lines[number] = line.partition("=")[0] + "= " + "[" * depth + "]" * depth + "\n"
    return "".join(lines).encode("utf-8", errors="surrogatepass")


_JSON: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 1.5, 1e308, float("nan"), float("inf"), 10**30, "", "x", [], {}),
    *([[]], [None], {"a": 1}, "\ud800", "../x", "1", "nan", -0.0, "9" * 50, [1, 2, 3], "male"),
)


def of_json(rng: Random, data: bytes) -> bytes:
    """Values exchanged, keys dropped and renamed, lists lengthened; or plain bytes."""
    if rng.random() < 0.15:
        return of_bytes(rng, data)
    value = json.loads(data)
    for _ in range(rng.randint(1, 4)):
        value = _node(rng, value)
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.02:
        text = "[" * 100_000 + text
    if rng.random() < 0.02:
        text = text.replace("1", "1" * 5000, 1)
    return text.encode("utf-8", errors="surrogatepass")


def _places(value: Any, most: int = 4000) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting and len(found) < most:
        one = waiting.pop()
        keys = one.keys() if isinstance(one, dict) else range(len(one))
        for key in keys:
            found.append((one, key))
            if isinstance(one[key], dict | list):
                waiting.append(one[key])
    return found


def _node(rng: Random, value: Any) -> Any:
    if not isinstance(value, dict | list) or not value or rng.random() < 0.02:
        return rng.choice(_JSON)
    holder, key = rng.choice(_places(value))
    kind = rng.randrange(7)
    if kind <= 2:
        holder[key] = copy.deepcopy(rng.choice(_JSON))
    elif kind == 3:
        del holder[key]
    elif kind == 4:
        other, at = rng.choice(_places(value))
        holder[key] = copy.deepcopy(other[at])
    elif kind == 5 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(rng.choice((*_JSON, holder[key]))))
    elif isinstance(holder, dict):
        holder[rng.choice(("x", "", str(key) + "_", "trial"))] = holder.pop(key)
    elif isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        holder[key] = -holder[key]
    return value


def one_of(*mutations: Mutation) -> Mutation:
    """One of several mutations, drawn for each case."""
    return lambda rng, data: rng.choice(mutations)(rng, data)
