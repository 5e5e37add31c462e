import numpy as np

from benchmarks.labeler import main
from benchmarks.measures.labeler import learn, make
from build.labeler.regions import Regions


def test_class_order_does_not_matter_and_the_best_rule_is_an_upper_bound():
    regions, best = make(20, 60, 0)
    assert (np.diff(regions.classes) >= 0).all()
    mixed = np.random.default_rng(1).permutation(len(regions.classes))
    ordered, rate = learn(regions, 20, 8)
    shuffled, _ = learn(Regions(*(values[mixed] for values in regions)), 20, 8)
    assert abs(ordered - shuffled) < 0.05
    assert 0.5 * best < ordered < best + 0.05
    assert rate > 0


def test_the_command_prints_a_row_for_each_number_of_classes(capsys):
    main(["--classes", "5", "7", "--regions", "20", "--epochs", "1"])
    assert {"5", "7"} <= {line.split("│")[1].strip() for line in capsys.readouterr().out.splitlines() if "│" in line}
