import errno
import json
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build.config.options import BuildConfig, ConfigError
from build.images.clicks import ByproductError, read_clicks
from build.networks.forward import Forward
from build.region_batch import clicked_regions
from build.run import main


def entry(x="0.5", y="0.5", selected="True"):
    record = f"<selectedRecord><x>{x}</x><y>{y}</y><time>3</time></selectedRecord>"
    return f"<metadata><imageHeight>10</imageHeight><selected>{selected}</selected><mouseTracking/>{record}</metadata>"


def write(folder, *entries, image_id="n01440764/n01440764_1"):
    path = folder / f"{image_id}.xml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"<annotation><filename>a</filename>{''.join(entries)}</annotation>")
    return path


def clicks_of(folder):
    return read_clicks(folder, "n01440764/n01440764_1")


def test_clicks_of_selected_entries_are_read(tmp_path):
    write(tmp_path, entry("0.25", "0.75"), entry("9", "9", selected="False"), entry(" 1 ", "0"))
    assert clicks_of(tmp_path) == [(0.25, 0.75), (1.0, 0.0)]
    write(tmp_path, entry(selected="False"))
    assert clicks_of(tmp_path) == []


def test_a_missing_file_has_a_status(tmp_path):
    with pytest.raises(ByproductError, match=r"n01440764_1\.xml: no such file") as caught:
        clicks_of(tmp_path)
    assert caught.value.status == "missing"


def test_what_cannot_be_opened_is_inaccessible_and_a_fifo_damaged(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo.xml")
    write(tmp_path, entry(), image_id="a")
    monkeypatch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    for name, status in (("fifo", "damaged"), ("a", "inaccessible")):
        with pytest.raises(ByproductError, match=f"{name}.xml") as caught:
            read_clicks(tmp_path, name)
        assert caught.value.status == status


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]><annotation>&c;</annotation>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation><metadata>&b;</metadata></annotation>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "ParseError"),
        ("<annotation>", "ParseError"),
        ('<?xml version="1.0" encoding="nothing"?><annotation/>', "LookupError: unknown encoding"),
        ('<?xml version="1.0" encoding="utf-7"?><annotation/>', "multi-byte encodings"),
        (BOMB, "DTDForbidden"),
        (OUTSIDE, "DTDForbidden"),
        ("<a>" * 100_000, "damaged|ParseError|Recursion"),
        (f"<annotation>{entry('nan', '0')}</annotation>", r"\(nan, 0.0\) is outside the image"),
        (f"<annotation>{entry('1.5', '0')}</annotation>", r"\(1.5, 0.0\) is outside the image"),
        (f"<annotation>{entry('left', '0')}</annotation>", "left"),
        ("<annotation><metadata><selected>True</selected></metadata></annotation>", "has no selectedRecord"),
        (b"\xff\xfe\x00", "ParseError"),
        (" " * 5_000_000, "must have at most 4000000"),
    ],
)
def test_a_damaged_file_has_a_status_and_its_name(tmp_path, content, message):
    path = write(tmp_path)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ByproductError, match=message) as caught:
        clicks_of(tmp_path)
    assert caught.value.status == "damaged"
    assert str(path) in str(caught.value)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300) | st.text(alphabet="<>/annotation metadata selected True &;xy0.5!", max_size=300))
def test_any_content_raises_only_byproduct_errors(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    write(folder).write_bytes(content if isinstance(content, bytes) else content.encode())
    status, found = "ok", []
    try:
        found = clicks_of(folder)
    except ByproductError as error:
        status = error.status
    assert status in ("ok", "damaged")
    assert isinstance(found, list)


def test_a_click_goes_to_the_best_aligned_region_under_it():
    masks = np.zeros((3, 4, 4), bool)
    masks[0], masks[1, :2, :2], masks[2, :, :2] = True, True, True
    alignment = np.array([0.1, 0.2, 0.9], np.float32)
    assert clicked_regions(masks, alignment, [(0.1, 0.1)]).tolist() == [False, False, True]
    assert clicked_regions(masks, alignment, [(0.9, 0.1)]).tolist() == [True, False, False]
    assert clicked_regions(masks, alignment, [(1.0, 1.0), (0.2, 0.9)]).tolist() == [True, False, True]
    assert clicked_regions(masks, np.full(3, np.nan, np.float32), [(0.1, 0.1)]).tolist() == [False, True, False]
    assert not clicked_regions(masks[1:], alignment[1:], [(0.9, 0.9)]).any()
    assert not clicked_regions(masks, alignment, []).any()


def test_clicked_regions_train_the_labeler(tmp_path, photographs):
    folder = tmp_path / "ab"
    folder.mkdir()
    names = sorted(path.relative_to(photographs / "train") for path in (photographs / "train").rglob("*.*"))
    for name in names[:3]:
        write(folder, entry("0.5", "0.55"), image_id=str(name.with_suffix("")))
    write(folder, image_id=str(names[3].with_suffix(""))).write_text("<")
    out = tmp_path / "out"
    command = ["--images", str(photographs), "--out", str(out), "--byproducts", str(folder), "--image-size", "128"]
    assert main([*command, "--scan-size", "0", "--alignment", "1", "--labeler-min-regions", "1"]) == 0
    (split,) = json.loads((out / "build_manifest.json").read_text())["splits"].values()
    assert split["byproducts"] == {"damaged": 1, "missing": len(names) - 4, "ok": 3}
    rows = pq.read_table(out / ".build" / "train" / "regions" / "00000.parquet").to_pylist()
    clicked = sum(map(sum, (row["clicked"] for row in rows)))
    assert 1 <= clicked <= 3
    assert split["labeler"]["clicks"] == {"clicked": clicked, "clicked_and_aligned": 0, "aligned_only": 0}
    assert split["labeler"]["aligned"] == clicked


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"byproducts: .*nowhere is not a folder"):
        Forward(BuildConfig(byproducts=str(tmp_path / "nowhere")))
