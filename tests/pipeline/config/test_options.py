import hashlib
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields

import pytest
import yaml

from build.config.command_line import _GROUPS, VERBS, _parser, from_mapping, parse, parse_verb
from build.config.options import STAGES, BuildConfig, ConfigError, digest
from build.run import main


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tau": 2.0}, "tau: 2.0"),
        ({"tau": float("nan")}, "tau: nan"),
        ({"tau": "high"}, "tau: 'high' must be of type float"),
        ({"num_regions": 0}, "num_regions: 0"),
        ({"num_regions": True}, "num_regions: True"),
        ({"stage": "masks"}, "stage: 'masks'"),
        ({"split": "../x"}, "split"),
        ({"patch_features": "queries"}, "patch_features: 'queries'"),
    ],
)
def test_wrong_values_are_named(options, words):
    with pytest.raises(ConfigError, match=words):
        BuildConfig(**options)


def test_the_command_line_wins_over_the_file(tmp_path):
    file = tmp_path / "build.yaml"
    file.write_text("tau: 0.4\nnum-regions: 5\nembed_images: true\n")
    config = parse(["--config", str(file), "--tau", "0.2"])
    assert (config.tau, config.num_regions, config.embed_images) == (0.2, 5, True)


@pytest.mark.parametrize(
    ("text", "words"), [("taus: 1\n", "'taus'; did you mean 'tau'"), ("- tau\n", "mapping"), ("a: [\n", "build.yaml")]
)
def test_errors_in_config_files_name_the_fault(tmp_path, text, words):
    file = tmp_path / "build.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        parse(["--config", str(file)])


def shown_by(text):
    """The options that a help text explains; usage and examples are not indented by two spaces, or do not begin with `--`."""
    return re.findall(r"^  (?:-h, )?--([a-z-]+)", text, re.MULTILINE)


def test_every_option_has_a_help_text_and_a_group_and_stands_in_one_of_the_two_helps():
    common, expert = (shown_by(_parser(expert=expert).format_help()) for expert in (False, True))
    always = ["help", "help-expert", "config", "preset", "verbose", "plan"]
    assert common[:6] == expert[:6] == always
    names = [option.name.replace("_", "-") for option in fields(BuildConfig)]
    assert sorted(common[6:] + expert[6:]) == sorted(names)
    for option in fields(BuildConfig):
        assert len(option.metadata["help"]) > 10
        assert option.metadata["group"] in _GROUPS
        assert option.name.replace("_", "-") in (expert if option.metadata["expert"] else common)


def test_help_shows_at_most_40_options():
    assert 20 < len(shown_by(_parser().format_help())) <= 40


def test_help_expert_is_printed_and_ends_the_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help-expert"])
    assert not stopped.value.code
    text = capsys.readouterr().out
    assert "--merge-iou" in text
    assert "--label-threshold X" not in text


def test_options_for_experts_are_taken_from_the_command_line_and_the_top_level_of_a_file(tmp_path):
    file = tmp_path / "build.yaml"
    file.write_text("merge-iou: 0.6\n")
    config = parse(["--config", str(file), "--top-k", "7"])
    assert (config.merge_iou, config.top_k) == (0.6, 7)


def test_a_file_can_hold_options_for_experts_in_their_own_section(tmp_path):
    file = tmp_path / "build.yaml"
    file.write_text("tau: 0.4\nexpert:\n  merge-iou: 0.6\n  top_k: 7\n")
    assert parse(["--config", str(file), "--top-k", "8"]) == BuildConfig(tau=0.4, merge_iou=0.6, top_k=8)
    file.write_text("tau: 0.4\nexpert:\n")
    assert parse(["--config", str(file)]) == BuildConfig(tau=0.4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("expert: 3\n", "expert: expected a mapping of options to values, found int"),
        ("expert: merge_iou\n", "expert: expected a mapping of options to values, found str"),
        ("expert: [top_k]\n", "expert: expected a mapping of options to values, found list"),
        ("expert: []\n", "expert: expected a mapping of options to values, found list"),
        ("expert: false\n", "expert: expected a mapping of options to values, found bool"),
        ("expert: {merge_io: 0.6}\n", "unknown option 'merge_io'; did you mean 'merge_iou'"),
        ("expert: {expert: {merge_iou: 0.6}}\n", "unknown option 'expert'"),
        ("expert: {merge_iou: high}\n", "merge_iou: 'high' must be of type float"),
    ],
)
def test_a_wrong_section_for_experts_is_refused(tmp_path, text, words):
    file = tmp_path / "build.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(words)):
        parse(["--config", str(file)])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--demo", "--images", "x"], "not both"),
        ([], "pass --images SOURCE for a new build"),
        (["--images", "not/there"], "not/there: no such folder, .tar file or .parquet file"),
        (["--config", "not/there.yaml"], "not/there.yaml"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tau": None}, "tau: None must be of type float"),
        ({"tau": float("inf")}, "tau: inf is out of range; it must be between -1 and 1"),
        ({"min_area": -0.01}, "min_area: -0.01 is out of range; it must be between 0 and 1"),
        ({"batch_size": 0}, "batch_size: 0 is out of range; it must be at least 1"),
        ({"limit": 1.5}, "limit: 1.5 must be of type int"),
        ({"embed_images": "yes"}, "embed_images: 'yes' must be of type bool"),
        ({"embed_images": 1}, "embed_images: 1 must be of type bool"),
        ({"images": 3}, "images: 3 must be of type str or None"),
        ({"unconfirmed": "maybe"}, "unconfirmed: 'maybe'; it must be one of keep, drop"),
        ({"device": "tpu"}, "device: 'tpu'; it must be one of auto, cpu, cuda"),
        ({"split": ""}, "split: ''"),
        ({"split": "my-split"}, "split: 'my-split'"),
        ({"split": "a/b"}, "split: 'a/b'"),
    ],
)
def test_the_message_has_the_option_the_value_and_the_rule(options, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        BuildConfig(**options)


def test_whole_numbers_pass_for_numbers_and_the_split_may_have_underscores():
    config = BuildConfig(tau=0, learning_rate=1, split="train_2")
    assert (config.tau, config.learning_rate, config.split) == (0, 1, "train_2")


@pytest.mark.parametrize(
    ("key", "close"), [("label-treshold", "label_threshold"), ("num_region", "num_regions"), ("Tau", "tau")]
)
def test_an_unknown_key_is_named_with_the_closest_option(key, close):
    with pytest.raises(ConfigError, match=f"^build.yaml: unknown option '{key}'; did you mean '{close}'"):
        from_mapping({key: 1}, "build.yaml")


def test_a_key_like_no_option_gets_no_suggestion():
    with pytest.raises(ConfigError) as caught:
        from_mapping({"zzzz": 1, "tau": 1}, "build.yaml")
    assert str(caught.value) == "build.yaml: unknown option 'zzzz'"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tau: high\n", "tau: 'high' must be of type float"),
        ("tau: .nan\n", "tau: nan is out of range; it must be between -1 and 1"),
        ("workers: -1\n", "workers: -1 is out of range; it must be at least 0"),
        ("embed-images: 1\n", "embed_images: 1 must be of type bool"),
        ("just text\n", "found str"),
        ("3\n", "found int"),
    ],
)
def test_wrong_values_in_a_file_end_the_command(tmp_path, capsys, text, words):
    file = tmp_path / "build.yaml"
    file.write_text(text)
    assert main(["--config", str(file), "--demo", "--out", str(tmp_path / "out")]) == 1
    assert words in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_text_is_named(tmp_path):
    file = tmp_path / "build.yaml"
    file.write_bytes(b"\xff\xfe\x00tau")
    with pytest.raises(ConfigError, match=r"build\.yaml"):
        parse(["--config", str(file)])


def test_an_empty_file_leaves_the_defaults(tmp_path):
    file = tmp_path / "build.yaml"
    file.write_text("# nothing yet\n")
    assert parse(["--config", str(file)]) == BuildConfig()


def test_a_file_can_hold_every_option(tmp_path):
    config = BuildConfig(tau=0.4, images="photos", embed_images=True, unconfirmed="drop", seed=7)
    file = tmp_path / "build.yaml"
    file.write_text(yaml.safe_dump(config.as_dict()))
    assert parse(["--config", str(file)]) == config


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_parsed_with_its_folder(verb):
    assert parse_verb([verb, "mlimagenet"]) == (verb, "mlimagenet")
    assert parse_verb(["--out", verb]) is None
    assert parse_verb([]) is None


@pytest.mark.parametrize("arguments", [["status"], ["verify", "a", "b"], ["status", "a", "--tau", "0.3"]])
def test_a_verb_takes_one_folder_and_no_options(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert f"python -m build.run {arguments[0]}" in capsys.readouterr().err


def test_demo_and_images_exclude_each_other():
    with pytest.raises(ConfigError, match="not both"):
        BuildConfig(demo=True, images="photos")


def test_demo_and_images_exclude_each_other_across_file_and_command(tmp_path):
    file = tmp_path / "build.yaml"
    file.write_text("images: photos\n")
    with pytest.raises(ConfigError, match="not both"):
        parse(["--config", str(file), "--demo"])


def test_switches_can_be_turned_off_on_the_command_line():
    assert parse(["--no-embed-images"]).embed_images is False
    assert parse(["--embed-images"]).embed_images is True


@pytest.mark.parametrize("arguments", [["--tau", "high"], ["--limit", "1.5"], ["--taus", "1"]])
def test_the_command_line_refuses_what_it_cannot_read(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(arguments)
    assert stopped.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_an_error_is_printed_as_it_is_even_with_brackets(tmp_path, capsys):
    assert main(["--images", str(tmp_path / "old[/red]new[bold]"), "--out", str(tmp_path / "out")]) == 1
    assert "old[/red]new[bold]: no such folder" in capsys.readouterr().out


def test_help_shows_the_default_and_the_choices():
    helps = {expert: " ".join(_parser(expert=expert).format_help().split()) for expert in (False, True)}
    for option in fields(BuildConfig):
        text = helps[option.metadata["expert"]]
        if isinstance(option.default, str | float | int) and not isinstance(option.default, bool):
            shown = f"{option.default:g}" if isinstance(option.default, float) else option.default
            assert f"(default: {shown})" in text
        if option.metadata["choices"]:
            assert "{" + ",".join(option.metadata["choices"]) + "}" in text


def test_each_stage_counts_its_own_options_and_no_other():
    settings = [BuildConfig().stage_settings(stage) for stage in STAGES]
    names = [name for options in settings for name in options]
    assert len(names) == len(set(names))
    never_change_results = {
        "images",
        "demo",
        "unlabelled",
        "split",
        "limit",
        "check_content",
        "out",
        "work",
        "sheet",
        "stage",
        "device",
        "workers",
        "engine",
        "address",
        "processes",
        "attempts",
        "unit_timeout",
        "num_shards",
        "shard_index",
    }
    assert {option.name for option in fields(BuildConfig)} - set(names) == {*never_change_results, "batch_size"}


def test_digests_do_not_depend_on_the_order_of_keys_or_the_day():
    expected = hashlib.sha256(b'{"a":[1.5,null,"\\u00e9"],"b":{"c":true,"d":0}}').hexdigest()
    assert digest({"b": {"d": 0, "c": True}, "a": [1.5, None, "é"]}) == expected
    assert digest({"a": 1}) != digest({"a": 1.5})


def test_a_configuration_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        BuildConfig().tau = 0.5


def test_help_and_status_do_not_wait_for_imports():
    code = "import sys, build.run; print({'torchvision', 'timm', 'datasets', 'scipy.optimize', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_file_can_name_a_preset_and_overrides_it(tmp_path):
    file = tmp_path / "build.yaml"
    file.write_text("preset: cutler\nimage_size: 224\n")
    config = parse(["--config", str(file), "--num-regions", "2"])
    assert (config.backbone, config.tau) == ("vit_base_patch8_224.dino", 0.15)
    assert (config.image_size, config.num_regions) == (224, 2)
    assert parse(["--config", str(file), "--preset", "dinov2"]).backbone == "vit_large_patch14_reg4_dinov2.lvd142m"
    file.write_text("preset: newest\n")
    with pytest.raises(ConfigError, match="'newest'; it must be one of paper, dinov3, cutler, dinov2"):
        parse(["--config", str(file)])
