import re
from pathlib import Path

import pytest
from timm.data import ImageNetInfo

from benchmarks.wordnet import TABLE, make
from mlimagenet_data.classes import class_of_folder, imagenet_classes, match_classes

WORDNET = Path("/usr/share/wordnet")


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


def names_of(text):
    return [imagenet_classes().names[index] for index in match_classes(text)]


def test_classes_are_found_by_name_kind_and_part_of_a_name_best_first():
    table = imagenet_classes()
    assert all(match_classes(table.names[k]) == [k] for k in range(1000))
    assert names_of(" TENCH ") == ["tench"]
    assert (names_of("Cardigan"), names_of("cardigan")) == (["Cardigan"], ["cardigan"])
    dogs = match_classes("dog")
    assert dogs[:118] == sorted(dogs[:118])
    assert {"Chihuahua", "standard poodle", "African hunting dog"} > set(names_of("dog")[:1])
    assert names_of("dog")[118:] == ["dogsled", "prairie dog", "hotdog"] or "dogsled" in names_of("dog")[118:]
    assert names_of("dogs")[:118] == names_of("dog")[:118]
    assert names_of("Égyptian-cat") == ["Egyptian cat"]
    assert names_of("poodles") == ["toy poodle", "miniature poodle", "standard poodle"]
    assert {"tabby", "tiger cat"} < set(names_of("felines"))
    assert len(match_classes("entity")) == 1000
    assert match_classes("") == match_classes("no such thing") == []


def test_the_table_of_kinds_holds_the_classes_up_to_the_root_and_comes_from_wordnet():
    text = TABLE.read_text(encoding="utf-8")
    lines = [line.split("\t") for line in text.splitlines()]
    known = {wnid for wnid, _, _ in lines}
    assert set(imagenet_classes().wnids) < known
    assert all(set(above.split()) <= known for _, _, above in lines)
    assert [names for _, names, above in lines if not above] == ["entity"]
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in TABLE.with_suffix(".LICENSE").read_text()
    if not WORDNET.is_dir():
        pytest.skip(f"{WORDNET} is not here: on Debian, apt-get install wordnet-base")
    assert make(WORDNET) == (text, TABLE.with_suffix(".LICENSE").read_text())
