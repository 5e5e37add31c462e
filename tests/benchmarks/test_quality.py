import json
import math
from pathlib import Path

import numpy as np
import pytest

import build.labeler.originals
import build.ops.image_labels
import build.ops.peaks
import mlimagenet_data.labelling.policy
from benchmarks.measures.quality import kept
from benchmarks.policies import POLICIES
from benchmarks.quality_tables import (
    DEFAULTS,
    END,
    MARK,
    NAMES,
    POLICY_MARK,
    between,
    cell,
    interval,
    policy_table,
    quality_tables,
)
from benchmarks.trust import WAYS, fit_to_people
from benchmarks.variants import DEFAULT, TABLES, replaced
from build import BuildConfig
from build.labeler.originals import PRIOR
from mlimagenet_data.labelling.policy import LabelPolicy

DOCS = Path(__file__).parents[2] / "docs"
JOBS = [(table, variant) for table in TABLES for variant in table.variants]


def figure(value=0.5, difference=(0.1, -0.1, 0.2)):
    return {"value": (value, 0.4, 0.6), "other_difference": difference}


@pytest.fixture
def results():
    """Results of a run in which all figures are the same."""
    return {
        "measured": "Measured.",
        "defaults": {name: {key: figure() for key in NAMES} for name in DEFAULTS},
        "trust": {
            name: {"error": None, "weight": 0.5, "figures": dict.fromkeys(("ece", "log_loss", "auroc"), figure())}
            for name in WAYS
        },
        "variants": {
            f"{table.photographs}/{variant.name}": {key: figure() for key in NAMES} for table, variant in JOBS
        },
        "policies": {
            policy.name: {
                "imagenet": dict.fromkeys(("wrong", "gone_told", "there_kept", "empty"), figure()),
                "coco": {"f1": figure()},
            }
            for policy in POLICIES
        },
    }


def test_the_build_accepts_every_variant():
    for _, variant in JOBS:
        changed = BuildConfig(images="x", **variant.options)
        assert (changed != BuildConfig(images="x")) is bool(variant.options), variant.name
        assert variant.options or variant.constants


def test_every_variant_has_a_file_of_its_own():
    for photographs in DEFAULTS:
        slugs = [variant.slug for table, variant in JOBS if table.photographs == photographs]
        assert len({DEFAULT.slug, *slugs}) == len(slugs) + 1


def test_only_options_and_constants_of_the_regions_stage_need_regions_of_their_own():
    found = {variant.name: variant.finds_regions for _, variant in JOBS}
    assert found["`--peaks 0`"]
    assert found["object grown at 0.4 only"]
    assert not found["`--top-k 1`"]
    assert not found["no second opinion"]
    assert not DEFAULT.finds_regions


def test_constants_are_replaced_only_within_the_block():
    (no_trust,) = (variant for _, variant in JOBS if variant.name.startswith("no trust"))
    before = PRIOR.score(0.2, 0.1), build.ops.peaks.LEVELS, build.ops.image_labels._OPINION
    with replaced({**no_trust.constants, "build.ops.peaks.LEVELS": (0.4,), "build.ops.image_labels._OPINION": 0.0}):
        assert (PRIOR.score(0.2, 0.1), build.ops.peaks.LEVELS, build.ops.image_labels._OPINION) == (0.2, (0.4,), 0.0)
    assert (PRIOR.score(0.2, 0.1), build.ops.peaks.LEVELS, build.ops.image_labels._OPINION) == before


def test_a_constant_that_does_not_exist_is_an_error():
    with pytest.raises(AttributeError), replaced({"build.ops.peaks.NOTHING": 1}):
        pass


def test_every_constant_exists():
    for _, variant in JOBS:
        with replaced(variant.constants):
            pass


def test_policies_differ_from_the_default():
    for policy in POLICIES[1:]:
        with replaced(policy.constants):
            is_default = LabelPolicy(**policy.rules) == LabelPolicy()
            assert not is_default or mlimagenet_data.labelling.policy.MAIN_SHARE == 0
    assert LabelPolicy(**POLICIES[0].rules) == LabelPolicy()


def test_a_difference_is_bold_if_its_interval_excludes_zero():
    assert cell(figure(0.5, (0.1, 0.01, 0.2)), 2) == "**0.50 (+0.10 [+0.01, +0.20])**"
    assert cell(figure(0.5, (-0.1, -0.2, 0.1))) == "0.500 (-0.100 [-0.200, +0.100])"
    assert cell(figure(0.5, (0.0, 0.0, 0.0))) == "="
    assert cell(figure(None)) == cell(figure(0.5, (math.nan,) * 3)) == interval(None) == "-"


def test_a_fit_to_people_finds_the_numbers_behind_their_verdicts():
    generator = np.random.default_rng(0)
    ratios = generator.normal(1, 2, 20000)
    truth = 1 / (1 + 0.1 / 0.9 * np.exp(-0.5 * ratios))
    found = fit_to_people(ratios, generator.random(len(ratios)) < truth)
    assert found.error == pytest.approx(0.1, abs=0.01)
    assert found.weight == pytest.approx(0.5, abs=0.03)
    assert np.abs(found.scores - truth).max() < 0.05


def test_a_label_is_scored_by_a_fit_that_has_not_seen_its_verdict():
    ratios = np.random.default_rng(1).normal(0, 1, 40)
    right = ratios > 0
    flipped = right.copy()
    flipped[7] = not flipped[7]
    assert fit_to_people(ratios, right).scores[7] == fit_to_people(ratios, flipped).scores[7]


def test_a_result_is_kept_under_its_key(tmp_path):
    file = tmp_path / "results" / "one.json"
    made = []

    def make():
        made.append(1)
        return {"count": len(made)}

    assert [kept(file, {"draws": n}, make)["count"] for n in (1, 1, 2, 2)] == [1, 1, 2, 2]
    assert json.loads(file.read_text())["key"] == {"draws": 2}


def test_text_between_marks_is_replaced():
    assert between("a<b>old<c>d", "<b>", "<c>", "new") == "a<b>\nnew\n<c>d"
    assert between("a<b>old", "<b>", "", "new") == "a<b>\nnew\n"
    for start, end in (("<x>", "<c>"), ("<b>", "<x>")):
        with pytest.raises(ValueError, match="lacks"):
            between("a<b>old<c>d", start, end, "new")


def test_variants_without_results_are_left_out(results):
    results["variants"] = {}
    assert "--peaks" not in quality_tables(results)


def test_the_documents_have_every_table_and_row_that_the_command_writes(results):
    for name, start, end, rendered in (
        ("quality.md", MARK, "", quality_tables(results)),
        ("labels.md", POLICY_MARK, END, policy_table(results)),
    ):
        before, mark, rest = (DOCS / name).read_text(encoding="utf-8").partition(start)
        written = rest.partition(end)[0] if end else rest
        assert mark
        assert before.startswith("# ")
        for wanted, line in zip(rendered.splitlines(), written.strip().splitlines(), strict=True):
            columns = [part.strip() for part in wanted.split("|")]
            found = [part.strip() for part in line.split("|")]
            assert len(found) == len(columns)
            assert found[1:2] == columns[1:2]  # the row's name
            if not wanted.startswith("|") and not wanted.startswith("Measured"):
                assert line == wanted
