"""Pseudonyms: an id becomes a keyed HMAC, the same for the same key, unreadable without it.

RFC 2104 HMAC-SHA256 over trial and id, cut to 100 bits and written in base32 (RFC 4648): with
a million participants two would share one with a probability below 1e-18.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from pathlib import Path

from ..errors import UsageError

_MIN_KEY_BYTES = 16
_LETTERS = 20  # five bits each


def read_key(path: Path) -> bytes:
    """The bytes of a key file, at least 16; UsageError otherwise."""
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise UsageError(f"The key file {path.name} cannot be read ({error.strerror}).") from error
    if len(key) < _MIN_KEY_BYTES:
        raise UsageError(
            f"The key in {path.name} is {len(key)} bytes long; it needs at least {_MIN_KEY_BYTES}.",
            hint="Make one with: openssl rand -hex 32 > KEYFILE. Keep it apart from the outputs.",
        )
    return key


def refuse_key_inside(path: Path, out: Path) -> None:
    """UsageError for a key file in the output: whoever gets the output would have it too."""
    if path.resolve().is_relative_to(out.resolve()):
        raise UsageError(
            f"The key file {path.name} lies inside {out.name}.",
            hint="Keep it apart from the outputs: with it every pseudonym can be linked.",
        )


def key_warning(path: Path) -> str | None:
    """A sentence where others on this machine can read a key file, else None."""
    if os.name == "posix" and path.is_file() and path.stat().st_mode & 0o077:
        return (
            f"Others on this machine may read the key file {path.name}, and whoever has it can "
            "link pseudonyms to participants: chmod 600."
        )
    return None


def key_check(key: bytes) -> str:
    """A word that is the same for the same key and tells nothing of it."""
    return hmac.new(key, b"cardiometa: which key", hashlib.sha256).hexdigest()[:16]


def pseudonym(key: bytes, trial: str, participant: str) -> str:
    """The id that stands for ``participant`` of ``trial`` in every output.

    The length of the trial's name is hashed too, so that no two pairs read the same.
    """
    message = f"{len(trial)}:{trial}{participant}".encode()
    digest = hmac.new(key, message, hashlib.sha256).digest()
    letters = base64.b32encode(digest).decode("ascii")[:_LETTERS].lower()
    # A letter first: a spreadsheet would take an id of digits and an e for a number.
    return f"p{letters}"
