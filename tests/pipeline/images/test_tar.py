import json
import os
import tarfile
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build.config.options import ConfigError
from build.images import tar_members
from build.images.listing import ODD_NAMES
from build.images.sources import list_images
from build.images.tar_members import tar_structure
from tests.support.containers import member, write_tar

BLOCK = 512


def listing_of(path, **options):
    return list_images(str(path), split="train", **options)


def ids(path, **options):
    return {image.file_name: (image.image_id, image.label) for image in listing_of(path, **options).images}


def faults(path):
    return {image.file_name: image.fault for image in listing_of(path).images}


def test_each_image_of_a_sample_is_an_image_of_its_own_and_gets_the_class(tmp_path):
    members = [(name, b"x") for name in ("my.photo1.jpg", "my.photo2.jpg", "other.png")]
    assert list(ids(write_tar(tmp_path / "a.tar", members))) == ["my.photo1.jpg", "my.photo2.jpg", "other.png"]
    members = [*members[:2], ("my.CLS", b"7"), ("my.photo2.Json", b'{"label": 7, "file_name": "z.jpg"}'), members[2]]
    assert ids(write_tar(tmp_path / "a.tar", members)) == {
        "my.photo1.jpg": ("n01514668/my.photo1", 7),
        "my.photo2.jpg": ("n01514668/my.photo2", 7),  # a file name in a .json is that of a sample's only image
        "other.png": ("other", None),
    }


def test_two_images_of_one_id_are_refused_with_both_names(tmp_path):
    for other in ("a.jpeg", "a.PNG", "./a.jpg"):
        write_tar(tmp_path / "a.tar", [("a.jpg", b"x"), (other, b"x"), ("a.cls", b"1")])
        with pytest.raises(ConfigError, match=r"a\.tar: a\.jpg and a\.tar: a\.\w+ would both be image n01443537/a"):
            ids(tmp_path / "a.tar")


@pytest.mark.parametrize(
    ("members", "sides"),
    [
        ([("n01440764_1.jpg", b"x"), ("n01440764_1.cls", b"2")], "'n01440764_1.cls' says class 2 .* but its path"),
        ([("n01440764/1.jpg", b"x"), ("n01440764/1.json", b'{"label": 2}')], "'n01440764/1.json' says class 2"),
        ([("a.cls", b"1"), ("a.jpg", b"x"), ("a.json", b'{"label": 2}')], r"'a\.cls' says class 1 .*'a\.json' says 2"),
        ([("a.jpg", b"x"), ("a.cls", b"1"), ("a.CLS", b"2")], r"'a\.cls' says class 1 .*'a\.CLS' says 2"),
        ([("a.jpg", b"x"), ("a.json", b'{"label": 2, "filename": "5/q.jpg"}')], r"class 2 .*path '5/q\.jpg' says 5"),
        ([("7/a.jpg", b"x"), ("7/a.json", b'{"filename": "5/q.jpg"}')], r"path '5/q\.jpg' says class 5"),
    ],
)
def test_a_contradiction_is_refused_with_both_sides_and_the_way_out(tmp_path, members, sides):
    path = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(ConfigError, match=sides) as refused:
        ids(path)
    assert "--unlabelled" in str(refused.value)
    assert len(ids(path, unlabelled=True)) == 1


@pytest.mark.parametrize(
    "names", [["a.jpg", "b.jpg", "a.cls"], ["a.cls", "b.jpg", "a.jpg"], ["a.jpg", "a.cls", "b.jpg", "a.2.jpg"]]
)
def test_a_sample_that_is_torn_apart_would_lose_its_class(tmp_path, names):
    path = write_tar(tmp_path / "a.tar", [(name, b"1") for name in names])
    with pytest.raises(ConfigError, match=r"'a\.cls' is not next to the other files of sample 'a'.*--unlabelled"):
        ids(path)
    assert len(ids(path, unlabelled=True)) == len(names) - 1


def test_a_key_may_come_back_where_no_class_can_be_lost(tmp_path):
    path = write_tar(tmp_path / "a.tar", [(name, b"x") for name in ("a.1.jpg", "b.jpg", "a.2.jpg", "c/a.1.jpg")])
    assert len(ids(path)) == 4


def test_a_class_file_twice_is_refused(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.jpg", b"x"), ("a.cls", b"1"), ("a.cls", b"1")])
    with pytest.raises(ConfigError, match=r"holds 'a\.cls' twice"):
        ids(path)
    assert ids(path, unlabelled=True) == {"a.jpg": ("a", None)}


def test_a_byte_order_mark_is_no_damage(tmp_path):
    members = [("a.png", b"x"), ("a.cls", b"\xef\xbb\xbf5"), ("b.png", b"x"), ("b.json", b'\xef\xbb\xbf{"label": 6}')]
    assert [image.label for image in listing_of(write_tar(tmp_path / "a.tar", members)).images] == [5, 6]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.json", b"[1]", "not an object"),
        ("a.json", b"[" * 100_000, "nests too deeply"),
        ("a.json", b"", "empty"),
        ("a.json", b"\xff", "not UTF-8"),
        ("a.json", b'{"label": true}', "label True must be a class index"),
        ("a.json", b'{"label": "tench"}', "label 'tench' must be a class index"),
        ("a.json", b'{"label": ' + b"1" * 5000 + b"}", "digits"),
        ("a.json", b'{"label": 1, "filename": "../../b.png"}', "must be a relative path"),
        ("a.json", b'{"filename": "\\ud800.png"}', "must be a relative path"),
        ("a.cls", b"cat", "holds b'cat', not a class index"),
        ("a.cls", b"", "not a class index"),
        ("a.cls", b"1" * 5000, "not a class index"),
        ("a.cls", b"1" + b" " * (1 << 24), "16777217 bytes; must have at most 16777216"),
    ],
)
def test_a_damaged_class_file_is_its_images_fault_and_ends_nothing(tmp_path, name, content, reason):
    path = write_tar(tmp_path / "a.tar", [("a.png", b"x"), (name, content), ("b.png", b"x"), ("b.cls", b"5")])
    listing = listing_of(path)
    first, second = listing.images
    assert (first.image_id, first.label) == ("a", None)
    assert first.fault.startswith(f"{name}: ")
    assert reason in first.fault
    assert (second.label, second.fault) == (5, None)
    assert (listing.faults, listing.left_out) == (1, {})
    assert [image.fault for image in listing_of(path, unlabelled=True).images] == [None, None]


def test_a_sparse_member_of_any_size_is_a_fault(tmp_path):
    header = member("a.jpg", 0, pax_headers={
        "GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "a.jpg",
        "GNU.sparse.realsize": str(2**46), "GNU.sparse.map": f"0,{2**46}",
    })  # fmt: skip
    path = write_tar(tmp_path / "a.tar", [(header, b""), ("b.jpg", b"x")], format=tarfile.PAX_FORMAT)
    listing = listing_of(path)
    assert [(i.file_name, i.fault) for i in listing.images][1] == ("b.jpg", None)
    assert listing.images[0].fault == "a sparse member; write the tar file without --sparse"
    assert listing.images[0].stamp[0] <= path.stat().st_size


@pytest.mark.parametrize("size", [2**46, 2**62, 513])
def test_a_member_that_the_file_cannot_hold_is_a_fault(tmp_path, size):
    path = write_tar(tmp_path / "a.tar", [("b.jpg", b"x")])
    with open(path, "r+b") as file:
        file.seek(2 * BLOCK)
        file.write(member("a.jpg", size).tobuf(tarfile.GNU_FORMAT) + b"x" * BLOCK)
        file.truncate()
    listing = listing_of(path)
    assert [image.file_name for image in listing.images] == ["b.jpg", "a.jpg"]
    assert listing.images[1].fault == f"declares {size} bytes, but the tar file ends before"
    assert listing.left_out == {"the end of a tar file, which is cut off": 1}


def test_a_class_that_is_cut_off_is_its_images_fault(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.jpg", b"x"), ("a.cls", b"5")])
    os.truncate(path, 3 * BLOCK)
    assert faults(path) == {"a.jpg": "a.cls: declares 1 bytes, but the tar file ends before"}


def test_a_tar_file_without_its_end_mark_is_counted(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.jpg", b"x")])
    os.truncate(path, 2 * BLOCK)
    assert listing_of(path).left_out == {"the end of a tar file, which is cut off": 1}
    assert faults(path) == {"a.jpg": None}


def test_members_behind_a_damaged_header_do_not_vanish(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.jpg", b"x"), ("b.jpg", b"x"), ("c.jpg", b"x")])
    with open(path, "r+b") as file:
        file.seek(2 * BLOCK + 3)
        file.write(b"?")
    with pytest.raises(ConfigError, match=r"a\.tar: damaged: byte 1024 begins no header.* get the file again"):
        ids(path)


def test_a_second_archive_behind_the_first_does_not_vanish(tmp_path):
    one, two = (write_tar(tmp_path / name, [(f"{name}.jpg", b"x")]) for name in ("a.tar", "b.tar"))
    one.write_bytes(one.read_bytes() + two.read_bytes())
    with pytest.raises(ConfigError, match=r"ends at byte 1024, but .* more bytes follow"):
        ids(one)


def test_what_is_not_a_regular_member_is_counted_by_kind(tmp_path):
    kinds = {
        "l.jpg": tarfile.SYMTYPE, "h.jpg": tarfile.LNKTYPE, "f.jpg": tarfile.FIFOTYPE, "c.jpg": tarfile.CHRTYPE,
        "folder": tarfile.DIRTYPE, "n.cls": tarfile.LNKTYPE,
    }  # fmt: skip
    headers = [(member(name, type=kind, linkname="a.jpg"), b"") for name, kind in kinds.items()]
    others = [("e.cls", b"1"), ("f.json", b"{}"), ("g.XML", b""), ("README", b"")]
    listing = listing_of(write_tar(tmp_path / "a.tar", [("a.jpg", b"x"), *headers, *others]))
    assert [image.file_name for image in listing.images] == ["a.jpg"]
    assert listing.left_out == {
        "links in tar files": 3, "special files in tar files": 2, ".cls and .json files without an image": 2,
        "other files (.xml)": 1, "other files (no extension)": 1,
    }  # fmt: skip
    assert listing.found == 10


def test_names_that_are_not_utf_8_are_counted(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.jpg", b"x"), ("b?.jpg", b"x")], format=tarfile.GNU_FORMAT)
    content = bytearray(path.read_bytes())
    content[2 * BLOCK + 1] = 0xFF
    content[2 * BLOCK + 148 : 2 * BLOCK + 156] = b" " * 8
    content[2 * BLOCK + 148 : 2 * BLOCK + 156] = b"%06o\0 " % sum(content[2 * BLOCK : 3 * BLOCK])
    path.write_bytes(content)
    listing = listing_of(path)
    assert [image.file_name for image in listing.images] == ["a.jpg"]
    assert listing.left_out == {r"names that are not UTF-8, such as 'a.tar: b\udcff.jpg'": 1}


def test_names_that_other_systems_read_as_paths_are_counted(tmp_path):
    names = ["a.jpg", "12:30.jpg", "x\\y.jpg", "..\\z.jpg", "b/12:30.jpg"]
    listing = listing_of(write_tar(tmp_path / "a.tar", [(name, b"x") for name in names]))
    assert [image.file_name for image in listing.images] == ["a.jpg", "12:30.jpg", "b/12:30.jpg"]
    assert listing.left_out == {f"{ODD_NAMES}, such as 'a.tar: ..\\\\z.jpg'": 2}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_read(tmp_path, form):
    name = "d/" * 100 + "é" * 60 + ".jpg"
    assert list(ids(write_tar(tmp_path / "a.tar", [(name, b"x")], format=form))) == [name]


def test_hidden_files_have_no_key_in_common(tmp_path):
    names = [".a.jpg", "a.jpg", "a.cls", ".b.jpg", ".b.cls", "b.jpg"]
    listing = listing_of(write_tar(tmp_path / "a.tar", [(name, b"1") for name in names]))
    assert {i.file_name: i.label for i in listing.images} == {
        ".a.jpg": None, "a.jpg": 1, ".b.jpg": 1, "b.jpg": None,
    }  # fmt: skip


def test_what_macos_writes_is_no_image_and_tears_no_sample(tmp_path):
    names = [
        "a.jpg",
        "._a.jpg",
        "a.cls",
        "__MACOSX/a.jpg",
        "__MACOSX/._a.cls",
        "._b.cls",
        "b.jpg",
        "d/._c.JPEG",
        "b.cls",
    ]
    listing = listing_of(write_tar(tmp_path / "a.tar", [(name, b"1") for name in names]))
    assert {image.file_name: image.label for image in listing.images} == {"a.jpg": 1, "b.jpg": 1}
    assert listing.left_out == {"macOS metadata (._* and __MACOSX)": 5}


@pytest.mark.parametrize(
    ("content", "label"),
    [(b"5", 5), (b" 5\r\n", 5), (b"-1", None), (b"n01443537\n", 1), (b"007", 7), (b"\xef\xbb\xbf5", 5)],
)
def test_classes_are_indices_or_wordnet_ids(tmp_path, content, label):
    listing = listing_of(write_tar(tmp_path / "a.tar", [("a.jpg", b"x"), ("a.cls", content)]))
    assert [(image.label, image.fault) for image in listing.images] == [(label, None)]


@pytest.mark.parametrize(
    "content", [b"5_0", b"+5", b"5.0", b"0x5", "\u0665".encode(), b"n99999999", b"tench", b"", b"1 2"]
)
def test_what_is_clearly_no_class_makes_its_image_unreadable(tmp_path, content):
    listing = listing_of(write_tar(tmp_path / "a.tar", [("a.jpg", b"x"), ("a.cls", content), ("b.jpg", b"x")]))
    assert listing.images[0].fault.startswith("a.cls: holds ")
    assert listing.images[1].fault is None


def test_a_wordnet_id_in_json_is_a_class(tmp_path):
    listing = listing_of(write_tar(tmp_path / "a.tar", [("a.jpg", b"x"), ("a.json", b'{"label": "n01443537"}')]))
    assert [image.label for image in listing.images] == [1]


@pytest.mark.parametrize("name", ["a\nb.jpg", "a\x1b[31m.jpg", "d/\x07.jpg", "C:a.jpg", "a\\b.jpg"])
def test_odd_names_are_left_out_and_counted(tmp_path, name):
    listing = listing_of(write_tar(tmp_path / "a.tar", [(name, b"x"), ("b.jpg", b"x")]))
    assert [image.file_name for image in listing.images] == ["b.jpg"]
    assert listing.left_out.total() == 1


def test_a_header_that_declares_a_long_name_takes_no_memory(tmp_path):
    path = tmp_path / "a.tar"
    with open(path, "wb") as file:
        file.write(member("././@LongLink", 2**40, type=tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT))
        file.truncate(2**41)  # a sparse file: it takes no disk space
    with pytest.raises(ConfigError, match="a header declares 1099511627776 bytes"):
        ids(path)


def test_a_header_that_leads_back_is_refused(tmp_path):
    header = member("a.jpg", 0)
    header.pax_headers = {"size": "-1024"}
    path = write_tar(tmp_path / "a.tar", [("b.jpg", b"x"), (header, b""), ("c.jpg", b"x")], format=tarfile.PAX_FORMAT)
    began = time.monotonic()
    with pytest.raises(ConfigError, match="unreadable as an uncompressed tar"):
        ids(path)
    assert time.monotonic() - began < 10


def test_a_compressed_tar_file_is_refused(tmp_path):
    path = write_tar(tmp_path / "b.tar", [("a.jpg", b"x")])
    with tarfile.open(tmp_path / "a.tar", "w:gz") as archive:
        archive.add(path)
    with pytest.raises(ConfigError, match="unreadable as an uncompressed tar"):
        ids(tmp_path / "a.tar")


def test_the_structure_is_that_of_the_listing_and_changes_with_any_header(tmp_path):
    members = [("a.jpg", b"x"), ("a.cls", b"5"), ("b.jpg", b"x")]
    first = write_tar(tmp_path / "a.tar", members)
    assert {image.source for image in listing_of(first).images} == {tar_structure(first)}
    hashes = {tar_structure(first)}
    variants = (
        [*members, ("c.jpg", b"x")],
        members[::-1],
        [("a.jpg", b"xy"), *members[1:]],
        [(member("a.jpg", 1, mtime=1), b"x"), *members[1:]],
    )
    for k, variant in enumerate(variants):
        hashes.add(tar_structure(write_tar(tmp_path / f"{k}.tar", variant)))
    assert len(hashes) == 5
    assert tar_structure(write_tar(tmp_path / "same.tar", members)) == tar_structure(first)


@pytest.mark.parametrize("most", [1000, 512])
def test_headers_within_the_limit_are_read(tmp_path, monkeypatch, most):
    path = write_tar(tmp_path / "a.tar", [("a" * 600 + ".jpg", b"x")], format=tarfile.GNU_FORMAT)
    monkeypatch.setattr(tar_members, "_MOST_HEADER", most)
    with pytest.raises(ConfigError, match="a header declares 1024 bytes"):
        ids(path)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=1500) | st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=20)), max_size=4))
def test_any_tar_file_is_listed_or_refused_with_a_config_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.tar"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        write_tar(path, [(name.encode("utf-8", "replace").decode() or "x", data) for name, data in content])
    message = ""
    try:
        list_images(str(path), split="train")
    except ConfigError as error:
        message = str(error)
    assert "fuzz.tar" in message or not message


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_damage_is_a_fault_a_count_or_a_refusal(tmp_path_factory, flips):
    path = tmp_path_factory.getbasetemp() / "flips.tar"
    members = [("a.jpg", b"x"), ("a.cls", b"5"), ("b.jpg", b"y"), ("b.json", json.dumps({"label": 3}).encode())]
    content = bytearray(write_tar(path, members).read_bytes())
    for place, value in flips:
        content[place] = value
    path.write_bytes(content)
    try:
        listing = listing_of(path)
    except ConfigError:
        return
    assert 1 <= listing.found <= 5
    assert all(image.fault or 0 <= image.position < len(content) for image in listing.images)
