"""The generated client is corrected where it is wrong."""

from pathlib import Path

import pytest

from database.generation import patch

BUILDER = "from textwrap import indent\n"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "builder.py").write_text(BUILDER)
    return tmp_path


def test_a_query_is_indented_at_its_own_lines_and_not_inside_strings(package: Path) -> None:
    patch(package)
    corrected: dict[str, object] = {}
    exec((package / "builder.py").read_text(), corrected)
    indent = corrected["indent"]
    assert callable(indent)
    assert indent('a {\n\n  b: "x\u2028y\x85z"\n}', "  ") == '  a {\n\n    b: "x\u2028y\x85z"\n  }'


def test_a_client_that_looks_otherwise_is_not_corrected_by_guess(package: Path) -> None:
    (package / "builder.py").write_text("from textwrap import indent as other\n")
    with pytest.raises(ValueError, match=r"builder\.py has changed"):
        patch(package)
