"""The table of flags is complete: every code that is raised anywhere is in it, once."""

import ast
from pathlib import Path

import cardiometa
from cardiometa.flags import FLAGS
from tests.kit.flags_page import page

PACKAGE = Path(cardiometa.__file__).parent
COMMAND = "python -m tests.kit.flags_page"


def raised_in_code() -> dict[str, set[str]]:
    """Code of every ``Flag(...)`` and ``raised(...)`` in the package, with its literal levels."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            words = {word.arg: word.value for word in node.keywords}
            if node.func.id == "raised" and node.args:
                codes, level = node.args[0], None
            elif node.func.id == "Flag" and "code" in words:
                codes, level = words["code"], words.get("level")
            else:
                continue
            levels = {level.value} if isinstance(level, ast.Constant) else set()
            for part in ast.walk(codes):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    found.setdefault(part.value, set()).update(levels)
                elif isinstance(part, ast.Name) and isinstance(constants.get(part.id), str):
                    found.setdefault(constants[part.id], set()).update(levels)
    return found


def test_every_flag_that_is_raised_is_in_the_table():
    found = raised_in_code()
    assert len(found) > 30
    assert "slow-frames" in found
    assert set(found) - set(FLAGS) == set()
    for code, levels in found.items():
        assert levels <= {FLAGS[code].level, "info"}, code


def test_every_rule_is_raised_somewhere():
    paths = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "flags.py"]
    text = "".join(path.read_text(encoding="utf-8") for path in paths)
    assert [code for code in FLAGS if f'"{code}"' not in text] == []


def test_the_file_for_people_is_the_table_of_the_rules():
    path = PACKAGE.parent / "examples" / "flags.md"
    if not path.is_file():  # an installed package has no examples
        assert "site-packages" in str(PACKAGE)
        return
    assert path.read_text(encoding="utf-8") == page(), f"make it anew: {COMMAND}"


def test_all_five_tiers_have_flags():
    assert {rule.tier for rule in FLAGS.values()} == {1, 2, 3, 4, 5}
