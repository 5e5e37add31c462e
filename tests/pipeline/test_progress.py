"""What a run prints, on a terminal and in a log, for names that strangers chose."""

import io
import os
import re

import pytest
from PIL import Image
from rich.table import Table

from build import progress
from build.run import main

NAMES = ["m[/x]", "[bold]m", "[link=http://x]m", ":smile:", "m[", "\\[x]", "[/]"]
HOSTILE = "m\x1b]0;owned\x07\x1b[2J\r\b\u202e[/x]\udcff"
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(params=[True, False], ids=["terminal", "log"])
def screen(request, monkeypatch):
    """Return a function that gives what was printed since its last call."""
    file = io.StringIO()
    console = type(progress.console)(file=file, force_terminal=request.param, width=200, color_system="truecolor")
    monkeypatch.setattr(progress, "console", console)

    def printed():
        text = file.getvalue()
        file.seek(0)
        file.truncate()
        return text

    return printed


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_printed_as_it_is(screen, name):
    progress.console.print(f"{name}: done")
    assert CODES.sub("", screen()) == f"{name}: done\n"
    progress.console.print(progress.styled(name, "bold red"), name)
    assert CODES.sub("", screen()) == f"{name} {name}\n"
    table = Table("column", title=name)
    table.add_row(name)
    progress.console.print(table)
    assert CODES.sub("", screen()).count(name) == 2


def test_no_control_character_of_a_name_is_printed(screen):
    table = Table(HOSTILE, title=HOSTILE, caption=HOSTILE)
    table.add_row(HOSTILE)
    for printed in (HOSTILE, progress.styled(HOSTILE, "bold"), table, {"a": HOSTILE}, [HOSTILE]):
        progress.console.print(printed)
        found = screen()
        assert "owned" in found
        assert not set(CODES.sub("", found)) & set("\x1b\x07\r\b\u202e\udcff")


def test_a_meter_shows_its_name_in_printable_form(screen, monkeypatch):
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.0)
    with progress.meter("m[/x]\x1b]0;owned\x07", 2) as shown:
        shown.advance(1)
    found = screen()
    assert "m[/x]" in found
    assert "\x1b]0" not in found


def test_bold_text_is_bold_on_a_terminal(monkeypatch):
    file = io.StringIO()
    console = type(progress.console)(file=file, force_terminal=True, color_system="standard")
    console.print(progress.styled("m[/x]", "bold"), "next")
    assert file.getvalue() == "\x1b[1mm[/x]\x1b[0m next\n"


def test_errors_of_the_command_are_printed_safely(capsys, tmp_path):
    assert main(["--images", str(tmp_path / "no\x1b[31m[/x]"), "--out", str(tmp_path / "out")]) == 1
    with pytest.raises(SystemExit):
        main(["--no\x1b[31m[/x]"])
    with pytest.raises(SystemExit):
        main(["status", "a", "\x1b[31m[/x]"])
    found = capsys.readouterr()
    assert found.out.count("[/x]") == 1
    assert found.err.count("[/x]") == 2
    assert "\x1b" not in found.out + found.err


def test_a_build_with_hostile_names_ends_well(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = tmp_path / "images[/x]"
    (images / "m[").mkdir(parents=True)
    Image.new("RGB", (40, 30), (200, 30, 30)).save(images / "m[/x]\u2066.jpg")
    (images / "m[/x]broken\u202e.jpg").write_text("no image")
    small = ["--image-size", "64", "--scan-size", "0", "--sheet", "1"]
    assert main(["--images", str(images), "--out", "m[/x]", "--unlabelled", *small]) == 0
    assert main(["status", "m[/x]"]) == 0
    said = capsys.readouterr().out
    assert "m[/x], split train" in said
    assert "m[/x]broken?.jpg" in said
    assert not {"\u2066", "\u202e"} & set(said)
    assert os.path.exists("m[/x]-sheet.png")
