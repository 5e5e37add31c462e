from dataclasses import fields

import pytest

from build.config import BuildConfig, ConfigError
from build.run import _parser, main, parse


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tau": 2.0}, "tau: 2.0"),
        ({"tau": float("nan")}, "tau: nan"),
        ({"tau": "high"}, "tau: 'high' is not float"),
        ({"num_regions": 0}, "num_regions: 0"),
        ({"num_regions": True}, "num_regions: True"),
        ({"stage": "masks"}, "stage: 'masks'"),
        ({"split": "../x"}, "split"),
        ({"backbone": "resnet"}, "backbone: 'resnet'"),
    ],
)
def test_wrong_values_are_named(options, words):
    with pytest.raises(ConfigError, match=words):
        BuildConfig(**options)


def test_the_command_line_wins_over_the_file(tmp_path):
    file = tmp_path / "build.yaml"
    file.write_text("tau: 0.4\nnum-regions: 5\nwhole_image: false\n")
    config = parse(["--config", str(file), "--tau", "0.2"])
    assert (config.tau, config.num_regions, config.whole_image) == (0.2, 5, False)


@pytest.mark.parametrize(
    ("text", "words"), [("taus: 1\n", "'taus'; did you mean 'tau'"), ("- tau\n", "mapping"), ("a: [\n", "build.yaml")]
)
def test_wrong_files_are_named(tmp_path, text, words):
    file = tmp_path / "build.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        parse(["--config", str(file)])


def test_help_explains_every_option():
    text = _parser().format_help()
    for option in fields(BuildConfig):
        assert f"--{option.name.replace('_', '-')}" in text
        assert len(option.metadata["help"]) > 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--demo", "--images", "x"], "exclude each other"),
        ([], "pass --images DIR or --demo"),
        (["--images", "not/there"], "not/there is not a folder"),
        (["--config", "not/there.yaml"], "not/there.yaml"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    assert words in capsys.readouterr().out
