"""Configuration files that are short and would be endless in memory or in print, or hold values of odd types."""

import os
import resource
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build.config.command_line import parse
from build.config.options import BuildConfig, ConfigError
from build.run import main

LINKED = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(f'*{before}' for _ in range(9))}]\n"
    for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{LINKED}limit: *h\n", r"found the alias \*a; write the value itself"),
        ("&a [*a]", r"found the alias \*a"),
        ("limit: *nothing", r"found the alias \*nothing"),
        (f"limit: 0x{'f' * 60_000}", "limit: an integer of 240000 bits is out of range"),
        (f"limit: {'9' * 5000}", "Exceeds the limit"),
        (f"limit: {'[1, ' * 90}1{']' * 90}", r"limit: \[1, \[1, \[\.\.\.\]\]\] must be of type int"),
        (f"limit: {[9] * 9000}", r"limit: \[9, 9, 9, 9, 9, 9, \.\.\.\] must be of type int"),
        (f"device: {'y' * 9000}", r"device: '[y.]{78}'; it must be one of auto"),
        (f"preset: {'y' * 9000}", r"preset: '[y.]{78}'; it must be one of"),
        (f"{'[y, ' * 90}{']' * 90}", "expected a mapping"),
        ('out: "a\\0b"', r"out: 'a\\x00b' holds a NUL character"),
        ("[" * 5000, "nests too deeply"),
        ("{" * 5000, "nests too deeply"),
        ("x" * 70_000, "must have at most 65536 bytes"),
        ("limit: 2020-99-99", "month must be in"),
        ("limit: !!int ''", "a value is not of its tag's type"),
        ("limit: !!bool maybe", "a value is not of its tag's type"),
        ("limit: !!timestamp x", "a value is not of its tag's type"),
        ("limit: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("3: 4", "unknown option 3"),
        ("[a]: 4", "unhashable key"),
    ],
)
def test_a_hostile_file_is_refused_in_few_words(tmp_path, text, words):
    (tmp_path / "a.yaml").write_text(text)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError, match=words) as refused:
        parse(["--config", str(tmp_path / "a.yaml")])
    assert len(str(refused.value)) < 500
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda content: content.decode("latin-1")))
def test_whatever_a_file_holds_the_error_is_the_configurations(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(f"limit: {text}", encoding="utf-8", errors="surrogatepass")
    try:
        assert isinstance(parse(["--config", str(path)]), BuildConfig)
    except ConfigError as error:
        assert str(error)  # noqa: PT017


def test_a_shells_pipe_can_be_a_configuration(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("limit: 3\n",))
    writer.start()
    assert parse(["--config", str(tmp_path / "pipe")]).limit == 3
    writer.join()


@pytest.mark.parametrize("options", [{"limit": 1 << 63}, {"shard_index": 1 << 20_000}, {"epochs": 10**400}])
def test_numbers_of_more_than_63_bits_are_refused(options):
    with pytest.raises(ConfigError, match=r"(limit|shard_index|epochs): .* is out of range"):
        BuildConfig(**options)


def test_the_command_prints_a_short_error_without_control_characters(tmp_path, capsys):
    (tmp_path / "a.yaml").write_text('device: "\\e[31m[/x]' + "y" * 900 + '"')
    assert main(["--config", str(tmp_path / "a.yaml")]) == 1
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert len(said) < 300
