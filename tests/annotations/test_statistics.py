from collections import Counter
from itertools import combinations

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from mlimagenet_data.annotations.shards import annotation_files
from mlimagenet_data.annotations.statistics import collect, plot
from tests.support.annotated import random_rows, region, row, write_rows

MASK = np.ones((2, 2), bool)


def slow_statistics(rows):
    rows = [r for r in rows if r["status"] in ("ok", "no_regions")]
    pairs = Counter(pair for r in rows for pair in combinations(sorted(r["labels"]), 2))
    return {
        "readable": len(rows),
        "regions": sum(len(r["regions"]) for r in rows),
        "labels": sum(len(r["labels"]) for r in rows),
        "by_labels": Counter(len(r["labels"]) for r in rows),
        "by_regions": Counter(len(r["regions"]) for r in rows),
        "per_class": Counter(index for r in rows for index in r["labels"]),
        "original_per_class": Counter(r["label"] for r in rows if r["label"] is not None),
        "pairs": pairs,
        "with_original": sum(r["label"] is not None for r in rows),
        "original_among": sum(r["label"] in r["labels"] for r in rows),
        "original_first": sum(r["labels"][:1] == [r["label"]] for r in rows),
    }


def counted(values):
    return Counter({k: n for k, n in enumerate(values) if n})


def test_the_counts_match_a_plain_loop(tmp_path):
    rows = random_rows(60, seed=1)
    rows[3]["label"], rows[5]["status"] = None, "unreadable"
    rows += [row(f"x{k}", (8, 8), [], label=2, labels=[(2, 0.9), (7, 0.8), (1, 0.4)]) for k in range(3)]
    files = annotation_files(write_rows(tmp_path, rows, shards=3), "train")
    found, expected = collect(files), slow_statistics(pq.read_table(files).to_pylist())
    assert found.images == 63
    for name in ("readable", "regions", "labels", "with_original", "original_among", "original_first"):
        assert getattr(found, name) == expected[name], name
    for name in ("by_labels", "by_regions", "per_class", "original_per_class"):
        assert counted(getattr(found, name)) == expected[name], name
    assert Counter({(a, b): n for a, b, n in found.pairs}) == expected["pairs"]
    assert [n for *_, n in found.pairs] == sorted((n for *_, n in found.pairs), reverse=True)
    assert collect(files, most_pairs=2).pairs == found.pairs[:2]


def test_an_empty_split_can_be_counted_and_drawn(tmp_path):
    found = collect(annotation_files(write_rows(tmp_path, []), "train"))
    assert (found.images, found.labels, found.by_labels, found.pairs) == (0, 0, [], [])
    plot(found, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as drawn:
        assert drawn.size == (1320, 840)


def test_plotting_is_deterministic(tmp_path):
    rows = [row("a", (4, 4), [region(MASK, 3), region(MASK, 5)]), row("b", (4, 4), [region(MASK, 3)])]
    found = collect(annotation_files(write_rows(tmp_path, rows), "train"))
    for name in ("one", "two"):
        plot(found, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
