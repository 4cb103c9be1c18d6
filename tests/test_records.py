"""The severity of warnings."""

import json
import pickle
from copy import deepcopy

from cardiometa.records import SeriousWarning, serious_first, severity


def test_a_warning_is_serious_where_it_is_declared_so_and_a_note_otherwise() -> None:
    assert severity(SeriousWarning("Only two trials.")) == "serious"
    assert severity("Only two trials.") == "note"


def test_serious_warnings_come_first_in_the_order_they_were_found() -> None:
    first, second = SeriousWarning("first"), SeriousWarning("second")
    ordered = serious_first(["a", first, "b", second, "a"])
    assert ordered == ("first", "second", "a", "b")
    assert [severity(one) for one in ordered] == ["serious", "serious", "note", "note"]


def test_a_sentence_that_is_serious_once_and_a_note_once_stays_serious() -> None:
    (kept,) = serious_first(["mixed models", SeriousWarning("mixed models")])
    assert severity(kept) == "serious"


def test_severity_survives_copies_between_processes() -> None:
    warning = SeriousWarning("mixed models")
    assert severity(pickle.loads(pickle.dumps(warning))) == "serious"
    assert severity(deepcopy(warning)) == "serious"
    assert json.dumps([warning]) == '["mixed models"]'
