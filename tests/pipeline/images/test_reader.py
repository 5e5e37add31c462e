import hashlib
import os
import threading

import pytest

from build.images import reader as reader_module
from build.images.listing import ImageInput
from build.images.reader import ImageReader, content_digest
from build.images.sources import list_images
from mlimagenet_data.errors import ImageError
from tests.support.containers import picture, write_parquet, write_tar


def image_of(name, size=1, **more):
    return ImageInput(name, name, None, (size, 0), **more)


def refused(reader, image):
    with pytest.raises(ImageError) as caught:
        reader.image(image)
    return caught.value.status, str(caught.value)


def test_an_image_comes_with_the_hash_of_its_bytes_wherever_it_is(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.png").write_bytes(picture(0))
    write_tar(tmp_path / "a.tar", [("a.png", picture(0))])
    write_parquet(tmp_path / "a.parquet", [("a.png", picture(0), None)])
    expected = hashlib.blake2b(picture(0), digest_size=16).hexdigest()
    assert content_digest(picture(0)) == expected
    for source in ("folder", "a.tar", "a.parquet"):
        listing = list_images(str(tmp_path / source), split="train")
        reader, (image,) = ImageReader(listing.root), listing.images
        pixels, digest = reader.loaded(image)
        assert (pixels.size, pixels.mode, digest) == ((48, 40), "RGB", expected)
        assert reader.digest(image) == expected
        assert reader.content(image) == picture(0)
        assert reader.is_accessible(image)


def test_what_was_listed_as_unreadable_has_the_status_and_the_reason(tmp_path):
    write_tar(tmp_path / "a.tar", [("a.png", picture(0)), ("a.json", b"[]")])
    (image,) = list_images(str(tmp_path / "a.tar"), split="train").images
    reader = ImageReader(tmp_path)
    place = f"{tmp_path}/a.tar: a.png: a.json: holds [], not an object"
    assert refused(reader, image) == ("unreadable", place)
    with pytest.raises(ImageError, match="not an object"):
        reader.content(image)
    assert reader.digest(image) is None


@pytest.mark.parametrize(
    ("make", "status", "reason"),
    [
        (lambda path: None, "missing", "no such file"),
        (lambda path: path.symlink_to("nowhere"), "missing", "broken symbolic link"),
        (os.mkfifo, "unreadable", "not a regular file (a FIFO)"),
        (lambda path: path.mkdir(), "unreadable", "not a regular file (a folder)"),
        (lambda path: path.symlink_to("/dev/zero"), "unreadable", "not a regular file (a device)"),
        (lambda path: path.write_bytes(b""), "unreadable", "the file is empty"),
        (lambda path: path.write_bytes(picture(0)[:60]), "unreadable", None),
    ],
)
@pytest.mark.parametrize("container", [None, "x.tar", "x.parquet"])
def test_whatever_is_in_a_files_place_is_its_status_and_hangs_nothing(tmp_path, make, status, reason, container):
    path = tmp_path / (container or "x.png")
    make(path)
    image = image_of("x.png", size=60, container=container)
    found, text = refused(ImageReader(tmp_path), image)
    assert text.startswith(f"{path}: ")
    if container is None or status == "missing" or "regular" in (reason or ""):
        assert found == status
        assert reason is None or text.endswith(reason)
    else:
        assert found == "unreadable"
    assert ImageReader(tmp_path).digest(image) is None or path.is_file()


def test_a_large_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(reader_module, "_MOST_BYTES", 1000)
    (tmp_path / "a.png").write_bytes(bytes(1001))
    status, text = refused(ImageReader(tmp_path), image_of("a.png"))
    assert (status, text) == ("too_large", f"{tmp_path}/a.png: 1001 bytes; must have at most 1000")
    write_tar(tmp_path / "a.tar", [("a.png", bytes(1001))])
    (image,) = list_images(str(tmp_path / "a.tar"), split="train").images
    assert refused(ImageReader(tmp_path), image)[0] == "too_large"


def test_a_container_that_shrank_is_a_status(tmp_path):
    write_tar(tmp_path / "a.tar", [("a.png", picture(0))])
    write_parquet(tmp_path / "a.parquet", [(f"{k}.png", picture(k), None) for k in range(3)])
    (member,) = list_images(str(tmp_path / "a.tar"), split="train").images
    row = list_images(str(tmp_path / "a.parquet"), split="train").images[2]
    os.truncate(tmp_path / "a.tar", 1000)
    write_parquet(tmp_path / "a.parquet", [("0.png", picture(0), None)])
    reader = ImageReader(tmp_path)
    assert refused(reader, member) == (
        "unreadable", f"{tmp_path}/a.tar: a.png: the tar file ends after 488 of its {len(picture(0))} bytes"
    )  # fmt: skip
    assert refused(reader, row)[1].endswith("the file has fewer rows than when it was listed")


def test_a_file_behind_a_link_out_of_the_root_is_read_but_never_copied(tmp_path):
    (tmp_path / "root" / "real").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(picture(0))
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "b.png").write_bytes(picture(1))
    (tmp_path / "root" / "real" / "c.png").write_bytes(picture(2))
    (tmp_path / "root" / "a.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "root" / "folder").symlink_to(tmp_path / "store")
    (tmp_path / "root" / "c.png").symlink_to("real/c.png")
    (tmp_path / "alias").symlink_to("root")
    for root in (tmp_path / "root", tmp_path / "alias"):
        reader = ImageReader(root)
        for name, target in (("a.png", "secret.png"), ("folder/b.png", "store/b.png")):
            assert reader.image(image_of(name)).size == (48, 40)
            with pytest.raises(ImageError, match=rf"{name}: a link leads to .*{target}, outside .*; copy the file"):
                reader.content(image_of(name))
        assert reader.content(image_of("c.png")) == picture(2)


def test_a_container_behind_a_link_out_of_the_root_is_read_but_never_copied(tmp_path):
    write_tar(tmp_path / "elsewhere" / "a.tar", [("a.png", picture(0))])
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.tar").symlink_to(tmp_path / "elsewhere" / "a.tar")
    listing = list_images(str(tmp_path / "root"), split="train")
    assert ImageReader(listing.root).image(listing.images[0]).size == (48, 40)
    with pytest.raises(ImageError, match=r"root/a\.tar: a link leads to .*elsewhere/a\.tar, outside"):
        ImageReader(listing.root).content(listing.images[0])


def test_row_groups_in_memory_are_few_and_small(tmp_path, monkeypatch):
    write_parquet(tmp_path / "a.parquet", [(f"{k}.png", picture(k), None) for k in range(12)], row_group_size=2)
    images = list_images(str(tmp_path / "a.parquet"), split="train").images
    reader = ImageReader(tmp_path)
    threads = [threading.Thread(target=reader.image, args=(image,)) for image in images]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reader._groups) == 4
    monkeypatch.setattr(reader_module, "_MOST_GROUP_BYTES", 1000)
    assert reader.content(images[0]) == picture(0)
    assert [reader.content(image) for image in images] == [picture(k) for k in range(12)]
    assert len(reader._groups) == 1


def test_a_name_with_control_characters_reaches_no_terminal(tmp_path):
    _, text = refused(ImageReader(tmp_path), image_of("\x1b[31m.png"))
    assert "\x1b" not in text
