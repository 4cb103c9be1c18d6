"""``--shard I/N``: which scans are whose, without anybody who deals them out.

A scan's shard follows from its own ids and N alone: scans that come or go move no other scan, and
neither do order, folders or tables. Shards are of nearly equal size, not of equal size.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import UsageError
from ..files import sha256_bytes
from ..records import ScanKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Shard ``number`` (from 1) of ``of``: ``Shard(number=3, of=16)`` is ``--shard 3/16``."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``"3/16"``; raises UsageError."""
        found = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
        number, of = (int(part) for part in found.groups()) if found else (0, 0)
        if not 1 <= number <= of:
            raise UsageError(
                f"--shard {text} is not a shard.",
                hint="Say --shard I/N with I from 1 to N, as in --shard 3/16.",
            )
        return cls(number=number, of=of)

    def has(self, key: ScanKey) -> bool:
        """True for a scan of this shard."""
        return shard_number(key, self.of) == self.number

    def __str__(self) -> str:
        """``3/16``."""
        return f"{self.number}/{self.of}"


def shard_number(key: ScanKey, of: int) -> int:
    """The shard from 1 to ``of`` that a scan belongs to: the SHA-256 of its ids, modulo ``of``."""
    digest = sha256_bytes(str(key).encode())
    return int(digest[:16], 16) % of + 1
