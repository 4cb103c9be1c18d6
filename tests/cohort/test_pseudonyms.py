"""Pseudonyms are stable, keyed, safe as folder names and apart."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.cohort.pseudonyms import pseudonym, read_key
from cardiometa.errors import UsageError
from cardiometa.files import is_safe_name

KEY = b"0123456789abcdef"


def test_a_pseudonym_is_the_hmac_and_never_changes():
    digest = hmac.new(KEY, b"5:ALPHA001", hashlib.sha256).digest()
    # The first 100 bits, five a letter, in the alphabet of RFC 4648.
    bits = f"{int.from_bytes(digest, 'big'):0256b}"[:100]
    letters = "".join(
        "abcdefghijklmnopqrstuvwxyz234567"[int(bits[i : i + 5], 2)] for i in range(0, 100, 5)
    )
    assert pseudonym(KEY, "ALPHA", "001") == f"p{letters}"


@settings(max_examples=100, deadline=None)
@given(trial=st.text(max_size=8), person=st.text(max_size=8), other=st.text(max_size=8))
def test_pseudonyms_are_safe_and_apart(trial, person, other):
    one = pseudonym(KEY, trial, person)
    assert is_safe_name(one)
    assert (one == pseudonym(KEY, trial, other)) == (person == other)
    assert one != pseudonym(KEY + b"x", trial, person)
    # Trial and id cannot run into each other.
    assert pseudonym(KEY, trial + "x", person) != pseudonym(KEY, trial, "x" + person)


def test_a_short_or_missing_key_is_refused(tmp_path):
    (tmp_path / "key").write_bytes(b"0123456789abcde\n")
    with pytest.raises(UsageError, match="15 bytes"):
        read_key(tmp_path / "key")
    with pytest.raises(UsageError, match="cannot be read"):
        read_key(tmp_path / "none")
    (tmp_path / "key").write_bytes(KEY + b"\n")
    assert read_key(tmp_path / "key") == KEY
