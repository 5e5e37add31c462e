import numpy as np
import pytest

from build.labeler.aligned import aligned_groups, merged
from build.records import RegionsRow


def row(label, alignment, classes, scores, clicked=None):
    clicked = clicked or [None] * len(classes)
    return RegionsRow(label=label, alignment=alignment, map_classes=classes, map_scores=scores, clicked=clicked)


SEEN = row(4, [0.8, 0.1, 0.75, 0.0], [4, 7, 4, 9], [0.8, 0.9, 0.75, 0.6])


def test_with_the_original_label_each_region_stands_alone():
    assert aligned_groups(SEEN, 0.75, "original") == [(4, [0]), (4, [2])]
    assert aligned_groups(row(None, [None], [7], [0.9]), 0.75, "original") == []
    assert aligned_groups(row(4, [None], [None], [None]), 0.0, "original") == []  # no label map


def test_with_any_class_the_regions_of_one_class_go_together():
    assert aligned_groups(SEEN, 0.75, "any") == [(4, [0, 2]), (7, [1])]
    assert aligned_groups(SEEN, 0.5, "any") == [(4, [0, 2]), (7, [1]), (9, [3])]
    assert aligned_groups(row(None, [None], [7], [0.9]), 0.75, "any") == [(7, [0])]
    assert aligned_groups(row(4, [None], [None], [None]), 0.0, "any") == []


@pytest.mark.parametrize(("way", "expected"), [("original", [(4, [0])]), ("any", [(4, [0])])])
def test_a_clicked_region_has_the_original_label(way, expected):
    assert aligned_groups(row(4, [0.1], [7], [0.9], [True]), 0.75, way) == expected


def test_the_mean_of_merged_regions_is_weighted_by_area():
    features = np.array([[[1, 0], [2, 2]], [[5, 4], [2, 6]]], np.float16)
    assert merged(features, np.array([0.3, 0.1])).tolist() == [[2, 1], [2, 3]]
    assert merged(features[:1], np.array([0.3])).tolist() == features[0].tolist()


def test_merged_regions_share_their_patches_by_area():
    features = np.arange(2 * 4, dtype=np.float16).reshape(2, 1, 4, 1)
    assert merged(features, np.array([0.3, 0.1]))[0, :, 0].tolist() == [0, 1, 2, 4]
    assert merged(features, np.array([0.1, 0.1]))[0, :, 0].tolist() == [0, 1, 4, 5]
