import io
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlimagenet_data.files.printing import ArgumentParser, printable, shown

ROOT = Path(__file__).parents[1]
OBEYED = ["\x1b", "\x9b", "\r", "\b", "\a", "\x7f", "\x85", "\u202e", "\u2066", "\u061c", "\u2028", "\udcff"]


@pytest.mark.parametrize("character", OBEYED)
def test_what_a_terminal_obeys_is_replaced(character):
    assert printable(f"a{character}b\tc\n") == "a?b\tc\n"


@pytest.mark.parametrize("text", ["m[/x]", "n01440764/a.JPEG", "日本 é ☃ \U0001f600", ":smile:", "a\u200db"])
def test_other_text_is_left_as_it_is(text):
    assert printable(text) == text


def test_what_an_encoding_lacks_is_replaced():
    assert printable("é 日", "latin-1") == "é ?"
    assert printable("é", "ascii") == "?"
    assert printable("é\udcff", None) == "é?"


@given(st.text(st.characters()), st.sampled_from(["utf-8", "ascii", "cp1252"]))
def test_printable_text_can_be_written_and_holds_no_control(text, encoding):
    found = printable(text, encoding)
    found.encode(encoding)
    assert len(found) == len(text)
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in found if c not in "\t\n")
    assert printable(found, encoding) == found


def nested():
    value = ["x"] * 9
    for _ in range(30):
        value = [value] * 9  # 9 ** 31 elements in print
    return value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (nested(), "[[[...], "),
        ({"a": nested()}, "{'a': ["),
        pytest.param(1 << 500_000, "an integer of 500001 bits", id="large"),
        pytest.param(-(1 << 500_000), "an integer of 500001 bits", id="small"),
        ("y" * 10**6, "'yyyy"),
        (b"y" * 10**6, "b'yyyy"),
        (set(range(10**6)), "{"),
        (12, "12"),
        (None, "None"),
        ("a\x1b[31m", r"'a\x1b[31m'"),
        ("a\udcff", r"'a\udcff'"),
    ],
)
def test_an_error_shows_80_characters_of_a_value(value, words):
    assert shown(value).startswith(words)
    assert len(shown(value)) <= 80
    assert shown(value).isprintable()


@given(st.recursive(st.none() | st.integers() | st.text() | st.floats() | st.binary(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_whatever_the_value_is_it_can_be_shown(value):
    assert 0 < len(shown(value)) <= 80


def test_a_parser_repeats_arguments_in_printable_form(capsys):
    parser = ArgumentParser(prog="test")
    parser.add_subparsers().add_parser("inner").add_argument("--number", type=int)
    for arguments in (["inner", "--number", "\x1b[31m"], ["\x1b[31m"], ["inner", "\x1b[31m", "\udcff"]):
        with pytest.raises(SystemExit):
            parser.parse_args(arguments)
        said = capsys.readouterr().err
        assert "error: " in said
        assert "\x1b" not in said


GUARDED = """
import warnings
from mlimagenet_data.files.printing import guard_terminal
guard_terminal()
warnings.warn("warned \\x1b[31m \\udcff")
raise RuntimeError("failed \\x1b[31m \\udcff")
"""


def test_tracebacks_and_warnings_are_printed_in_printable_form():
    done = subprocess.run([sys.executable, "-c", GUARDED], check=False, capture_output=True, cwd=ROOT, timeout=60)
    said = done.stderr.decode()
    assert done.returncode == 1
    assert "UserWarning: warned ?[31m ?" in said
    assert "RuntimeError: failed ?[31m ?" in said
    assert "\x1b" not in said


def test_a_name_that_a_terminal_cannot_express_is_printed(monkeypatch):
    from mlimagenet_data.commands.common import say

    file = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file, encoding="ascii"))
    say("é \x1b[31m", "b")
    sys.stdout.flush()
    assert file.getvalue() == b"? ?[31m\nb\n"
