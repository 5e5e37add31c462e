import json
import multiprocessing
import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlimagenet_data.annotations import index as index_module
from mlimagenet_data.annotations.masks import encode_mask, parse_runs
from mlimagenet_data.annotations.shards import annotation_files
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.dataset import MultiLabelImageNet
from mlimagenet_data.errors import AnnotationError, AnnotationsNotFoundError
from mlimagenet_data.labelling.shares import view_shares
from mlimagenet_data.viewer.entries import _codes
from mlimagenet_data.views.view import view_of_box
from tests.support.annotated import random_rows, region, row, write_rows


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MLIMAGENET_CACHE", str(tmp_path / "cache"))


def test_the_store_returns_the_rows(tmp_path):
    rows = random_rows(60)
    rows[7].update(height=None, width=None, status="unreadable", regions=[], labels=[], scores=[])
    rows[8]["label"] = None
    store = AnnotationStore(write_rows(tmp_path, rows, shards=3), "train")
    assert len(store) == 60
    for number, expected in enumerate(rows):
        record = store.record(number)
        assert record.image_id == expected["image_id"]
        assert record.file_name == expected["file_name"]
        assert record.label == expected["label"]
        assert record.status == expected["status"]
        assert record.size == (None if expected["height"] is None else (expected["height"], expected["width"]))
        assert [index for index, _ in record.labels] == expected["labels"]
        np.testing.assert_allclose([score for _, score in record.labels], expected["scores"], rtol=1e-6)
        for found, wanted in zip(record.regions, expected["regions"], strict=True):
            np.testing.assert_array_equal(found.mask, coco_mask.decode(wanted["mask"]).astype(bool))
            assert (found.label, [index for index, _ in found.topk]) == (wanted["label"], wanted["topk_labels"])
        for stack in record.stacks:
            np.testing.assert_array_equal(stack.cells, stack.masks.sum(axis=(1, 2)))


def test_rows_are_found_by_image_id(tmp_path):
    rows = random_rows(50)
    store = AnnotationStore(write_rows(tmp_path, rows), "train")
    assert [store.find(item["image_id"]) for item in rows] == list(range(50))
    with pytest.raises(KeyError):
        store.find("n01440764/none")


def test_the_index_is_rebuilt_only_when_a_file_changes(tmp_path, monkeypatch):
    folder = write_rows(tmp_path / "data set", random_rows(5))
    AnnotationStore(folder, "train")
    monkeypatch.setattr(index_module, "write_index", None)
    assert len(AnnotationStore(folder, "train")) == 5
    monkeypatch.undo()
    monkeypatch.setenv("MLIMAGENET_CACHE", str(tmp_path / "cache"))
    write_rows(folder, random_rows(6, seed=1))
    assert len(AnnotationStore(folder, "train")) == 6


def _open(folder, cache, queue):
    os.environ["MLIMAGENET_CACHE"] = str(cache)
    queue.put(len(AnnotationStore(folder, "train")))


def test_many_processes_can_open_the_index_at_once(tmp_path):
    folder = write_rows(tmp_path / "set", random_rows(300))
    context = multiprocessing.get_context("forkserver")
    queue = context.Queue()
    processes = [context.Process(target=_open, args=(folder, tmp_path / "cache", queue)) for _ in range(4)]
    for process in processes:
        process.start()
    assert [queue.get(timeout=60) for _ in processes] == [300] * 4
    for process in processes:
        process.join()
    folders = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert len(folders) == 1


def test_the_index_holds_no_pickle_files(tmp_path):
    AnnotationStore(write_rows(tmp_path / "set", random_rows(5)), "train")
    (folder,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    assert {path.suffix for path in folder.iterdir()} == {".bin", ".json"}
    assert json.loads((folder / "index.json").read_text())["rows"] == 5


def test_stores_and_datasets_pickle_to_a_few_hundred_bytes(tmp_path):
    folder = write_rows(tmp_path / "mlimagenet", random_rows(200))
    store = AnnotationStore(folder, "train")
    assert len(pickle.dumps(store)) < 300
    assert pickle.loads(pickle.dumps(store)).record(3) is not None
    dataset = MultiLabelImageNet(tmp_path, loader=str, annotations=folder)
    assert len(pickle.dumps(dataset)) < 1000
    assert len(pickle.loads(pickle.dumps(dataset))) == len(dataset)


def test_a_list_of_files_can_be_opened(tmp_path):
    folder = write_rows(tmp_path, random_rows(9), shards=3)
    files = sorted((folder / "data").iterdir())
    assert len(AnnotationStore(files[:2], "train")) == 6
    with pytest.raises(AnnotationsNotFoundError, match="empty list"):
        AnnotationStore([], "train")
    with pytest.raises(AnnotationsNotFoundError, match=r"no\.parquet"):
        AnnotationStore([tmp_path / "no.parquet"], "train")


def test_a_hub_id_is_downloaded_at_its_revision(tmp_path, monkeypatch):
    import huggingface_hub

    folder = write_rows(tmp_path / "snapshot", random_rows(4))
    asked = {}

    def snapshot_download(repo, **options):
        asked.update(options, repo=repo)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert len(AnnotationStore("hf:someone/mlimagenet@v1.0", "train")) == 4
    assert (asked["repo"], asked["revision"], asked["repo_type"]) == ("someone/mlimagenet", "v1.0", "dataset")
    asked.clear()
    for mistyped in ("someone/mlimagenet", "someone/mlimagenet@v1.0", "data/imagenet", Path("hf:someone/mlimagenet")):
        with pytest.raises(AnnotationsNotFoundError, match="no such folder"):
            AnnotationStore(mistyped, "train")
    with pytest.raises(AnnotationsNotFoundError, match=r"for a dataset on the Hub write hf:a/b$"):
        AnnotationStore("a/b", "train")
    for odd in ("hf:", "hf:someone", "hf:a/b/c", "hf:a/b@", "hf:a/b@v 1", "hf:/etc/passwd", "hf:../x"):
        with pytest.raises(AnnotationError, match="not a dataset on the Hub; write hf:USER/NAME"):
            AnnotationStore(odd, "train")
    assert not asked  # none of these reached the network


def test_a_dataset_that_the_hub_does_not_have_is_named(monkeypatch):
    import huggingface_hub

    def snapshot_download(repo, **options):
        raise FileNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(AnnotationsNotFoundError, match="hf:a/b: cannot be downloaded from the Hub: offline"):
        AnnotationStore("hf:a/b", "train")


def test_why_the_hub_gave_nothing_is_said_in_plain_words(monkeypatch):
    import huggingface_hub
    from huggingface_hub import constants, utils

    for kind, is_offline, why in (
        (utils.LocalEntryNotFoundError, False, r"not downloaded yet, and https?://\S+ cannot be reached"),
        (utils.LocalEntryNotFoundError, True, "not downloaded yet, and HF_HUB_OFFLINE is set"),
        (utils.RepositoryNotFoundError, False, "no such dataset on the Hub, or a private one; for that, log in"),
        (utils.RevisionNotFoundError, False, "the dataset on the Hub has no such revision"),
    ):

        def snapshot_download(repo, kind=kind, **options):
            raise kind.__new__(kind, "ConnectError: [Errno -2]")

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", is_offline)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        with pytest.raises(AnnotationsNotFoundError, match=rf"^hf:a/b: {why}"):
            AnnotationStore("hf:a/b", "train")


def test_a_split_is_a_name_and_no_pattern(tmp_path):
    for split in ("train", "train-more"):
        write_rows(tmp_path, random_rows(3), split=split)
        assert [file.name for file in annotation_files(tmp_path, split)] == [f"{split}-00000-of-00001.parquet"]
    for split in ("trai*", "../data/train", "", "tr"):
        with pytest.raises(AnnotationsNotFoundError, match="available splits: train, train-more"):
            annotation_files(tmp_path, split)


def test_opening_counts_the_rows_that_it_indexes(tmp_path):
    folder, counts = write_rows(tmp_path, random_rows(7), shards=2), []
    for _ in range(2):
        AnnotationStore(folder, "train", advance=counts.append)
    assert sum(counts) == 7  # the second opening finds the index


def test_image_ids_must_be_unique(tmp_path):
    rows = [*random_rows(3), random_rows(1)[0]]
    with pytest.raises(AnnotationError, match=r"rows 0 and 3 have the same image_id"):
        AnnotationStore(write_rows(tmp_path, rows), "train")


def test_a_refused_file_leaves_nothing_in_the_cache(tmp_path):
    rows = random_rows(3)
    rows[1]["scores"] = [2.0] * len(rows[1]["scores"]) or [2.0]
    rows[1]["labels"] = [1] * len(rows[1]["scores"])
    with pytest.raises(AnnotationError, match=r"row 1, scores: 2\.0"):
        AnnotationStore(write_rows(tmp_path / "set", rows), "train")
    assert [path for path in os.listdir(tmp_path / "cache") if not path.endswith(".lock")] == []


def test_a_mask_with_a_side_too_long_for_the_index_is_refused(tmp_path):
    item = row("wide", (10, 10), [])
    wide = {"size": [1, 70_000], "counts": encode_mask(np.zeros((1, 70_000), bool))}
    item["regions"] = [
        {
            "mask": wide,
            "bbox": [],
            "area": 0.1,
            "label": 1,
            "score": 0.5,
            "topk_labels": [],
            "topk_scores": [],
            "alignment": None,
        }
    ]
    with pytest.raises(AnnotationError, match=r"row 0, regions.mask.size"):
        AnnotationStore(write_rows(tmp_path, [item]), "train")


def test_damaged_masks_are_found_among_valid_ones():
    texts = [
        encode_mask(np.eye(8, dtype=bool)),
        "",
        encode_mask(np.ones((8, 8), bool)),
        "0000",
        "o",
        encode_mask(np.zeros((8, 8), bool)),
    ]
    texts = [text or "?" for text in texts]
    raw = "".join(texts).encode()
    offsets = np.concatenate(([0], np.cumsum([len(text) for text in texts])))
    _, counts, good = parse_runs(np.frombuffer(raw, np.uint8), offsets, np.full(len(texts), 64))
    assert good.tolist() == [True, False, True, False, False, True]
    assert counts[0] == 16


def runs_of(draw_lengths, size):
    """Make a mask of runs with these lengths, cut or filled up to its size, column by column."""
    values = np.repeat(np.arange(len(draw_lengths)) % 2 == 1, draw_lengths)[: size[0] * size[1]]
    return np.pad(values, (0, size[0] * size[1] - values.size)).reshape(size[1], size[0]).T


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from([0, 1, 2, 40, 254, 255, 256, 510, 511, 700]), min_size=1, max_size=9),
            st.sampled_from([(24, 24), (24, 24), (64, 40), (1, 900), (900, 1)]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_masks_with_runs_of_any_length_are_kept(tmp_path, drawn):
    masks = [runs_of(lengths, size) for lengths, size in drawn]
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    write_rows(folder, [row("a", (90, 70), [region(mask, 3) for mask in masks])])
    record = AnnotationStore(folder, "train").record(0)
    for mask, found in zip(masks, record.regions, strict=True):
        assert np.array_equal(mask, found.mask)
    for stack in record.stacks:
        assert stack.cells == tuple(int(masks[k].sum()) for k in stack.regions)
        assert [code for _, code in _codes(stack)] == [encode_mask(masks[k]) for k in stack.regions]
    for box in ((0, 0, 90, 70), (13, 7, 31, 22), (-5, -9, 40, 200)):
        view = view_of_box((90, 70), *box)
        for k, (visibility, coverage) in view_shares(record.stacks, view).items():
            cells = view.cells(masks[k].shape)
            shown = float((masks[k] * cells).sum())
            assert visibility == pytest.approx(shown / masks[k].sum() if masks[k].any() else 0, abs=1e-9)
            assert coverage == pytest.approx(shown / (masks[k].size * view.area), abs=1e-9)
