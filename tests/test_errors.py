from __future__ import annotations

from cardiometa import errors


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    named = {
        name
        for name in vars(errors)
        if isinstance(getattr(errors, name), type)
        and issubclass(getattr(errors, name), errors.CardiometaError)
    }
    assert errors.__doc__ is not None
    assert all(name in errors.__doc__ for name in named)
    codes = {name: getattr(errors, name).exit_code for name in named}
    assert codes == {
        "CardiometaError": 1,
        "UsageError": 2,
        "InputError": 3,
        "CohortError": 3,
        "TableError": 3,
        "ImageError": 3,
        "ModelError": 3,
        "EstimationError": 5,
        "EngineError": 1,
        "OutputError": 1,
        "StoppedError": 130,
    }


def test_a_problem_reads_as_a_sentence() -> None:
    problem = errors.Problem(
        where="participants.csv, row 7", what="height_cm is 1.7", why="Metres?", fix="Say unit."
    )
    assert str(problem) == "participants.csv, row 7: height_cm is 1.7. Metres? Say unit."
