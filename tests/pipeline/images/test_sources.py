import io
import json
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from build.config.options import BuildConfig, ConfigError
from build.images.listing import ImageInput, Images, Listing, digest_of, evenly_spaced, stamps_of
from build.images.reader import ImageReader
from build.images.sources import input_paths, list_images
from build.run import main
from mlimagenet_data.errors import ImageError
from tests.support.containers import picture, write_parquet, write_tar

SMALL = ["--image-size", "64", "--scan-size", "0"]
WNIDS = {0: "n01440764", 281: "n02123045"}


def write_folder(root):
    for seed, label in enumerate((0, 281, 0, 281)):
        path = root / WNIDS[label] / f"{WNIDS[label]}_{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(seed))
    return root


def listed(source, **options):
    return {i.file_name: (i.image_id, i.label) for i in list_images(str(source), split="train", **options).images}


def test_a_tar_file_of_samples_is_listed(tmp_path):
    path = write_tar(tmp_path / "train-0000.tar", [
        ("a.png", picture(0)), ("a.cls", b"281"),
        ("b.json", json.dumps({"label": 0, "filename": "n01440764/n01440764_10026.JPEG"}).encode()), ("b.png", picture(1)),
        ("deep/n02123045_7.png", picture(2)),
        ("c.png", picture(3)), ("d.txt", b"no image"), ("e.cls", b"5"),
    ])  # fmt: skip
    expected = {
        "a.png": ("n02123045/a", 281),
        "b.png": ("n01440764/n01440764_10026", 0),
        "deep/n02123045_7.png": ("n02123045/n02123045_7", 281),
        "c.png": ("c", None),
    }
    assert listed(path) == expected
    assert listed(tmp_path) == expected
    assert listed(path, unlabelled=True)["a.png"] == ("a", None)
    reader, images = ImageReader(tmp_path), list_images(str(path), split="train").images
    assert [reader.content(image) for image in images] == [picture(k) for k in range(4)]
    assert np.asarray(reader.image(images[1])).shape == (40, 48, 3)


def test_parquet_files_as_datasets_writes_them_are_listed(tmp_path):
    rows = [(f"n01440764_{k}_n01440764.JPEG", picture(k), 0) for k in range(7)] + [("x.png", picture(7), -1)]
    write_parquet(tmp_path / "data" / "train-00000-of-00001.parquet", rows, row_group_size=3)
    write_parquet(tmp_path / "data" / "validation-00000-of-00001.parquet", rows[:1])
    images = list_images(str(tmp_path), split="train").images
    assert len(images) == 8
    assert (images[2].image_id, images[2].label) == ("n01440764/n01440764_2", 0)
    assert (images[7].image_id, images[7].label) == ("x", None)
    reader = ImageReader(tmp_path / "data")
    for k in (7, 0, 3, 2, 6, 1):
        assert reader.content(images[k]) == picture(k)
    assert len(listed(tmp_path, limit=3)) == 3


def test_what_datasets_itself_saves_is_read(tmp_path):
    files = sorted(write_folder(tmp_path / "images").rglob("*.png"))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=1000)})
    rows = {"image": [{"bytes": file.read_bytes(), "path": file.name} for file in files], "label": [0, 0, 281, 281]}
    saved = datasets.Dataset.from_dict(rows, features=features)
    saved.to_parquet(tmp_path / "train-00000-of-00001.parquet")
    images = list_images(str(tmp_path / "train-00000-of-00001.parquet"), split="train").images
    assert [image.label for image in images] == [0, 0, 281, 281]
    reader = ImageReader(tmp_path)
    assert [np.asarray(reader.image(image)).mean() for image in images] == [
        np.asarray(Image.open(io.BytesIO(file.read_bytes()))).mean() for file in files
    ]


def test_a_folder_a_tar_and_a_parquet_file_of_the_same_images_make_the_same_annotations(tmp_path):
    folder = write_folder(tmp_path / "images")
    files = sorted(folder.rglob("*.png"))
    members = [(str(file.relative_to(folder)), file.read_bytes()) for file in files]
    write_tar(tmp_path / "a.tar", members)
    write_parquet(tmp_path / "a.parquet", [(name, content, 0 if "n0144" in name else 281) for name, content in members])
    found = []
    for source in (folder, tmp_path / "a.tar", tmp_path / "a.parquet"):
        out = tmp_path / f"out{len(found)}"
        assert main(["--images", str(source), "--out", str(out), *SMALL, "--embed-images", "--sheet", "2"]) == 0
        found.append(pq.read_table(next((out / "data").iterdir())).to_pylist())
    assert found[0] == found[1] == found[2]
    assert [row["image"]["bytes"] for row in found[0]] == [file.read_bytes() for file in files]


def test_damaged_images_in_containers_have_a_status(tmp_path):
    write_tar(tmp_path / "a.tar", [("a.png", picture(0)[:60]), ("b.png", picture(1))])
    write_parquet(
        tmp_path / "b" / "b.parquet", [("a.png", b"no image", 0), ("b.png", None, 0), ("c.png", picture(0), 0)]
    )
    assert main(["--images", str(tmp_path / "a.tar"), "--out", str(tmp_path / "out"), *SMALL]) == 0
    split = json.loads((tmp_path / "out" / "build_manifest.json").read_text())["splits"]["train"]
    assert split["statuses"] == {"ok": 1, "unreadable": 1}
    assert split["failures"][0]["reason"].startswith("a.tar: a.png: ")
    reader = ImageReader(tmp_path / "b")
    images = list_images(str(tmp_path / "b"), split="train").images
    for k in (0, 1):
        with pytest.raises(ImageError, match=rf"b\.parquet: {'ab'[k]}\.png: ") as caught:
            reader.image(images[k])
        assert caught.value.status == "unreadable"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../a.png", b"x")], r"'\.\./a\.png' must be a relative path that stays inside"),
        ([("/a.png", b"x")], "must be a relative path that stays inside"),
        ([("a.png", b"x"), ("a.cls", b"1000")], "a.cls: class 1000 must be an index from 0 to 999; .*--unlabelled"),
        ([("a.png", b"x"), ("a.json", b'{"label": -2}')], "a.json: class -2 must be an index from 0 to 999"),
        ([("n01440764_1.png", b"x"), ("b/n01440764_1.png", b"x")], "would both be image n01440764/n01440764_1"),
        ([("a.txt", b"x")], "no image files in .*\\.tar"),
    ],
)
def test_a_tar_file_that_is_wrong_is_an_error_that_says_where(tmp_path, members, message):
    path = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(ConfigError, match=message):
        list_images(str(path), split="train")


def test_other_files_are_errors(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"no tar file" * 100)
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "c.parquet")
    for name, message in (
        ("a.tar", "uncompressed tar"),
        ("b.parquet", "unreadable as Parquet"),
        ("c.parquet", "needs a column `image`"),
    ):
        with pytest.raises(ConfigError, match=message):
            list_images(str(tmp_path / name), split="train")
    with pytest.raises(ConfigError, match=r"both \.tar and \.parquet"):
        list_images(str(tmp_path), split="train")
    with pytest.raises(ConfigError, match="no such folder"):
        list_images(str(tmp_path / "nowhere"), split="train")


def test_a_dataset_on_the_hub_is_downloaded_and_listed(tmp_path, monkeypatch):
    write_parquet(tmp_path / "data" / "train-00000-of-00001.parquet", [("a.png", picture(0), 3)])
    asked = []

    def downloaded(repo, **options):
        asked.append((repo, options["revision"], options["repo_type"]))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", downloaded)
    assert list(listed("hf:ILSVRC/imagenet-1k@main")) == ["a.png"]
    assert asked == [("ILSVRC/imagenet-1k", "main", "dataset")]


def test_the_list_is_a_sequence_of_its_images():
    images = [
        ImageInput(
            f"i{k}",
            f"f{k}",
            k if k % 2 else None,
            (k, k + 1),
            "c" if k % 3 else None,
            k,
            -k,
            k + 2,
            "s" if k % 3 else None,
            f"fault {k}" if k % 4 == 0 else None,
        )
        for k in range(9)
    ]
    found = Images.of(images)
    assert list(found) == images
    assert found[3] == images[3]
    assert found[-1] == images[-1]
    assert found[2:5] == images[2:5]
    assert found[::4] == images[::4]
    assert list(found.take([5, 1])) == [images[5], images[1]]
    assert evenly_spaced(found, 3) == images[::3]
    with pytest.raises(IndexError):
        found[9]
    assert list(Images.of([])) == []
    listing = Listing(Path("x"), found)
    assert (listing.found, listing.faults, listing.first_fault) == (9, 3, "f0: fault 0")
    assert Listing(Path("x"), found.take([1])).first_fault == ""


def test_the_digest_depends_on_times_only_on_request():
    one, later = (ImageInput("a", "b", 1, (5, t)) for t in (1, 2))
    assert digest_of([one], times=False) == digest_of([later], times=False)
    assert digest_of([one], times=True) != digest_of([later], times=True)
    assert digest_of([one, later], times=False) != digest_of([one], times=False)
    assert digest_of([one], times=True) != digest_of([replace(one, source="s")], times=True)
    assert digest_of([one], times=True) != digest_of([replace(one, fault="f")], times=True)
    assert digest_of([one], times=True) == digest_of([replace(one, changed_ns=8, inode=9)], times=True)


def test_the_stamps_are_times_and_inodes():
    one = ImageInput("a", "b", 1, (5, 6), changed_ns=7, inode=8)
    assert stamps_of([one]) == stamps_of([replace(one, stamp=(1, 6), label=3)])
    others = (replace(one, stamp=(5, 9)), replace(one, changed_ns=9), replace(one, inode=9))
    assert len({stamps_of([i]) for i in (one, *others)}) == 4
    assert stamps_of(Images.of([one])) == stamps_of([one])


def test_image_files_beside_a_container_are_refused_with_one_of_each(tmp_path):
    write_folder(tmp_path / "photos")
    write_tar(tmp_path / "photos" / "backup.tar", [("a.png", picture(0))])
    assert len(listed(tmp_path / "photos")) == 4  # class folders: a stray tar file is left out
    assert list_images(str(tmp_path / "photos"), split="train").left_out == {
        "tar and Parquet files in an image folder": 1
    }
    (tmp_path / "photos" / "n01440764").rename(tmp_path / "photos" / "fish")
    (tmp_path / "photos" / "n02123045").rename(tmp_path / "photos" / "cats")
    for unlabelled in (False, True):
        with pytest.raises(
            ConfigError, match=r"image files \('.*png'\) and \.tar files \('backup\.tar'\); pass .*backup\.tar"
        ):
            listed(tmp_path / "photos", unlabelled=unlabelled)
    assert list(listed(tmp_path / "photos" / "backup.tar")) == ["a.png"]
    (tmp_path / "photos" / "data").mkdir()
    (tmp_path / "photos" / "backup.tar").rename(tmp_path / "photos" / "data" / "backup.TAR")
    with pytest.raises(ConfigError, match="holds image files"):
        listed(tmp_path / "photos", unlabelled=True)


def test_files_beside_containers_are_counted(tmp_path):
    write_tar(tmp_path / "train-0.tar", [("a.png", b"x")])
    write_tar(tmp_path / "val-0.tar", [("b.png", b"x")])
    (tmp_path / "README.md").write_text("x")
    listing = list_images(str(tmp_path), split="train")
    assert [image.file_name for image in listing.images] == ["a.png"]
    assert listing.left_out == {"tar and Parquet files of other splits or folders": 1, "other files (.md)": 1}


def test_class_folders_in_the_splits_folder_outweigh_a_stray_tar_file_there(tmp_path):
    write_folder(tmp_path / "train")
    write_tar(tmp_path / "train" / "train-0.tar", [("a.png", b"x")])
    assert len(listed(tmp_path)) == 4


def test_a_container_that_is_a_link_keeps_its_images_inside_the_root(tmp_path):
    write_tar(tmp_path / "store" / "a.tar", [("a.png", picture(0))])
    (tmp_path / "b.tar").symlink_to(tmp_path / "store" / "a.tar")
    listing = list_images(str(tmp_path / "b.tar"), split="train")
    assert (listing.root, listing.images[0].container) == ((tmp_path / "store").resolve(), "a.tar")
    assert ImageReader(listing.root).content(listing.images[0]) == picture(0)


def test_the_hubs_cache_of_links_is_a_root_of_its_own(tmp_path, monkeypatch):
    write_parquet(tmp_path / "repo" / "blobs" / "0123", [("a.png", picture(0), 3)])
    snapshot = tmp_path / "repo" / "snapshots" / "main"
    (snapshot / "data").mkdir(parents=True)
    (snapshot / "data" / "train-0.parquet").symlink_to("../../../blobs/0123")
    (snapshot / "logo.png").write_bytes(b"x")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repo, **options: str(snapshot))
    listing = list_images("hf:user/photos", split="train")
    assert listing.root == (tmp_path / "repo").resolve()
    assert listing.images[0].container == "snapshots/main/data/train-0.parquet"
    assert listing.left_out == {"other files (.png)": 1}
    assert ImageReader(listing.root).content(listing.images[0]) == picture(0)


def test_the_inputs_of_a_build_are_named(tmp_path):
    config = BuildConfig(images="photos", label_maps="maps", byproducts="clicks")
    assert input_paths(config) == [Path("photos"), Path("maps"), Path("clicks")]
    assert input_paths(BuildConfig(images="hf:user/photos")) == []


def test_the_greeting_counts_what_was_found_taken_and_left_out(tmp_path, capsys):
    members = [("a.png", picture(0)), ("b.png", picture(1)), ("b.json", b"[1]"), ("c.txt", b"x"), ("d.cls", b"1")]
    write_tar(tmp_path / "a.tar", members)
    arguments = ["--images", str(tmp_path / "a.tar"), "--out", str(tmp_path / "out"), *SMALL, "--stage", "regions"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert f"4 entries found in {tmp_path}: 2 images taken, 0 with an original label, 2 left out; 1 shards" in said
    assert "left out: 1 other files (.txt), 1 .cls and .json files without an image" in said
    assert "1 of the images cannot be read; the first: a.tar: b.png: b.json: holds [1], not an object" in said
