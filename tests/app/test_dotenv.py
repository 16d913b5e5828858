"""The `.env` as it is read: by the rules of phpdotenv, restated here, and by PHP where there is one."""

from __future__ import annotations

import json
import shutil
import string
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.app.dotenv import dotenv

READER = Path("components/app/check_backend.php").resolve()
NASTY = {
    "PLAIN": "https://api.scell.io/v1?x",
    "EMPTY": "",
    "SPACES": " a b ",
    "HASH": "pass#word",
    "DOLLAR": "${HOME} $x \\$",
    "QUOTES": 'it\'s "so"',
    "BACKSLASH": "C:\\new\\\\",
    "LINES": "one\ntwo\r\n\tthree",
    "KEY": "base64:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "ACCENT": "Société générale €",
}


def test_what_needs_no_quotes_has_none_and_the_rest_is_escaped() -> None:
    assert dotenv({"B": "redis", "A": "127.0.0.1:6379", "C": ""}) == "A=127.0.0.1:6379\nB=redis\nC=\n"
    assert dotenv({"A": 'a "b" #1 $x \\ \n'}) == 'A="a \\"b\\" #1 \\$x \\\\ \\n"\n'


def test_a_name_or_character_the_format_does_not_have_is_refused_without_its_value() -> None:
    with pytest.raises(ValueError, match="'A-B' is not a name"):
        dotenv({"A-B": "x"})
    with pytest.raises(ValueError, match="the value of TOKEN has a control character") as refused:
        dotenv({"TOKEN": "hidden\0"})
    assert "hidden" not in str(refused.value)


def phpdotenv(text: str) -> dict[str, str]:
    """vlucas/phpdotenv 5 on what we write: in double quotes a backslash escapes, "$" begins a variable."""
    values = {}
    for line in text.splitlines():
        name, _, raw = line.partition("=")
        if raw.startswith('"'):
            assert raw.endswith('"')
            value, characters = "", iter(raw[1:-1])
            for character in characters:
                assert character not in '$"', "a variable, or the end of the value"
                if character == "\\":
                    escaped = next(characters)
                    character = {"n": "\n", "r": "\r", "t": "\t"}.get(escaped) or escaped
                    assert escaped in 'nrt"$\\'
                value += character
            values[name] = value
        else:
            assert not set(raw) & set(" \t#$'\"\\")
            values[name] = raw
    return values


# What splits lines for Python and not for PHP has no place in this comparison.
printable = st.text(
    st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\u2028\u2029\x85")
    | st.sampled_from("\n\r\t\"'\\$# {}=")
)


@given(st.dictionaries(st.text(string.ascii_uppercase, min_size=1), printable))
def test_what_is_written_is_what_is_read(values: dict[str, str]) -> None:
    assert phpdotenv(dotenv(values)) == values


@pytest.mark.skipif(shutil.which("php") is None, reason="PHP is not installed")
def test_php_reads_what_was_written(tmp_path: Path) -> None:
    program = READER.read_text()
    function = program[program.index("function environment") : program.index("/** Again until")]
    script = tmp_path / "read.php"
    script.write_text(f"<?php {function} echo json_encode(environment(stream_get_contents(STDIN)));")
    read = subprocess.run(
        ["php", str(script)], input=dotenv(NASTY), capture_output=True, text=True, check=True
    )
    assert json.loads(read.stdout) == NASTY
