import json

from benchmarks.measures.metrics import APPROACHES, KINDS, make, measure
from benchmarks.metrics import main


def test_our_metrics_agree_with_scikit_learn_and_are_timed(tmp_path, capsys):
    found = {name: measure(name, "ties", 2000)["values"] for name in APPROACHES}
    for what in ("classes", "images"):
        ours, other = found[f"{what}, ours"], found[f"{what}, scikit-learn"]
        assert max(abs(a - b) for a, b in zip(ours, other, strict=True)) < 1e-6
    main(["--call", "classes, ours", "softmax", "--images", "300"])
    assert json.loads(capsys.readouterr().out)["seconds"] > 0


def test_only_the_ties_kind_has_tied_scores():
    for kind in KINDS:
        scores, targets = make(kind, 400)
        assert (len(set(scores[:, 0].tolist())) < 102) == (kind == "ties")
        assert 1 < targets.sum(axis=1).mean() < 1.3
