import re

import pytest
from timm.data import ImageNetInfo

from mlimagenet_data.classes import class_of_folder, find_class, imagenet_classes
from mlimagenet_data.errors import MLImageNetError


def test_the_table_matches_ilsvrc():
    table, info = imagenet_classes(), ImageNetInfo("imagenet-1k")
    assert list(table.wnids) == list(info.label_names())
    assert list(table.wnids) == sorted(set(table.wnids))
    assert len(set(table.names)) == len(table) == 1000
    for index, name in enumerate(table.names):
        assert re.sub(r" \(.*\)$", "", name) == info.index_to_description(index).split(",")[0].strip()


def test_folders_name_classes_by_wnid_or_index():
    assert [class_of_folder(name) for name in ("n01440764", "0", "999")] == [0, 0, 999]
    assert [class_of_folder(name) for name in ("1000", "00", "-1", "", "n0144076", "²", "cats")] == [None] * 7


def test_users_name_classes_by_name_wnid_or_index():
    table = imagenet_classes()
    assert [find_class(text) for text in ("Tench", "n01440764", "0", " tench ")] == [0] * 4
    assert all(find_class(table.names[k]) == k for k in range(1000))
    with pytest.raises(MLImageNetError, match=r"'tenc' is not an ImageNet class.*did you mean.* tench"):
        find_class("tenc")
    with pytest.raises(MLImageNetError, match=r"index$"):
        find_class("1000")
