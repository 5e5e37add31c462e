import os
import re
import shlex
import signal
from pathlib import Path

import datasets
import pytest
import torch

from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.cli import main as mlimagenet
from mlimagenet_data.dataset import MultiLabelImageNet
from mlimagenet_data.errors import ImageError, OutputError
from mlimagenet_data.files.inside import OutsideError
from mlimagenet_data.files.outputs import LOCK, MARKER
from mlimagenet_data.labelling.policy import LabelPolicy
from mlimagenet_data.materialize import materialize
from tests.faults.harness import KillAt
from tests.support.annotated import random_rows, row, write_images, write_rows
from tests.support.children import CONTEXT


@pytest.fixture
def root(tmp_path):
    rows = random_rows(9)
    write_rows(tmp_path / "mlimagenet", rows)
    return write_images(tmp_path, rows)


def whole_targets(root, **options):
    dataset = MultiLabelImageNet(root, **options)
    return torch.stack([dataset.labels_for(k, (0, 0, *dataset.record(k).size)) for k in range(len(dataset))])


@pytest.mark.parametrize("target", ["multi_hot", "soft"])
@pytest.mark.parametrize("embed", [False, True])
def test_rows_hold_the_images_and_their_whole_image_targets(root, tmp_path, target, embed):
    assert materialize(root, tmp_path / "out", target=target, embed=embed) == 9
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train")
    dataset, expected = MultiLabelImageNet(root), whole_targets(root, target=target)
    assert 0 < (expected > 0).sum() < expected.numel()
    for index, item in enumerate(loaded):
        assert torch.equal(torch.tensor(item["target"]).float(), expected[index])
        assert item["labels"] == expected[index].nonzero().ravel().tolist()
        assert item["image"].size == dataset.record(index).size[::-1]
    for index, item in enumerate(loaded.cast_column("image", datasets.Image(decode=False))):
        source, content = Path(dataset.path(index)), item["image"]["bytes"]
        assert item["image"]["path"] == (source.name if embed else str(source))
        assert content == (source.read_bytes() if embed else None)


def test_the_policy_is_applied(tmp_path):
    rows = [row("image0", (20, 20), [], label=3, labels=[(7, 0.9)])]
    write_rows(tmp_path / "mlimagenet", rows)
    write_images(tmp_path, rows)
    out = str(tmp_path / "out")
    mlimagenet(["materialize", str(tmp_path), out])
    assert datasets.load_dataset(out, split="train")[0]["labels"] == [7]
    mlimagenet(["materialize", str(tmp_path), out, "--original", "always", "--unlocated", "drop"])
    assert datasets.load_dataset(out, split="train")[0]["labels"] == [3]  # and not the first call's result from a cache
    materialize(tmp_path, out, policy=LabelPolicy(original="always"))
    assert datasets.load_dataset(out, split="train")[0]["labels"] == [3, 7]


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)  # timm's reader leaves files open
@pytest.mark.parametrize("target", ["multi_hot", "soft"])
@pytest.mark.parametrize(("loss", "mixed"), [("bce", False), ("asl", True)])
def test_timm_trains_on_it_with_its_own_classes(root, tmp_path, monkeypatch, capsys, target, loss, mixed):
    """Use timm's parts as its train.py does, with the options of the command that `mlimagenet materialize` prints."""
    data = pytest.importorskip("timm.data")
    tasks = pytest.importorskip("timm.task")
    if not hasattr(tasks, "MultiLabelClassificationTask"):
        pytest.skip("this release of timm has no multi-label task")
    from timm import create_model

    monkeypatch.chdir(tmp_path)
    mlimagenet(["materialize", str(root), "out", "--target", target])
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])[2:]
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert (options["--dataset"], options["--task"], options["--val-split"]) == ("hfds/out", "multilabel", "")
    target_format, classes = options.get("--target-format"), int(options["--num-classes"])
    dataset = data.create_dataset(
        options["--dataset"],
        split=options["--train-split"],
        is_training=True,
        target_key=options["--target-key"],
        target_format=target_format,
        target_transform=data.MultiLabelTarget(classes, dense=target_format == "multihot"),
    )
    common = {"input_size": (3, 32, 32), "batch_size": 4, "num_workers": 0, "use_prefetcher": False}
    expected = whole_targets(root, target=target)
    read = torch.cat([targets for _, targets in data.create_loader(dataset, is_training=False, **common)])
    assert torch.equal(read, expected)

    torch.manual_seed(0)
    task = tasks.MultiLabelClassificationTask(
        create_model("resnet10t", num_classes=classes),
        criterion_kwargs={"loss_type": loss, "soft_targets": mixed},
        device=torch.device("cpu"),
        verbose=False,
    )
    optimizer = torch.optim.SGD(task.parameters(), 0.1)
    mixer = data.Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=classes, label_smoothing=0.0, multi_label=True)
    weight = task.get_trainable_module().get_classifier().weight
    before = weight.detach().clone()
    images, targets = next(iter(data.create_loader(dataset, is_training=True, **common)))
    if mixed:
        images, targets = mixer(images, targets)
    result = task(images, targets)
    result["loss"].backward()
    optimizer.step()
    assert torch.isfinite(result["loss"])
    assert not torch.equal(weight, before)
    evaluator = task.create_evaluator()
    evaluator.update(result["output"], targets)
    assert 0 <= evaluator.compute()["map"] <= 100


@pytest.mark.parametrize("embed", [False, True])
def test_an_unusable_image_is_named(root, tmp_path, embed):
    out = tmp_path / "out"
    dataset = MultiLabelImageNet(root)
    path, image_id = Path(dataset.path(4)), dataset.record(4).image_id
    pixels = path.read_bytes()
    path.unlink()
    where = rf"{re.escape(str(path))}: %s \(row 4 of split train, image {image_id}\)"
    with pytest.raises(ImageError, match=where % "No such file or directory"):
        materialize(root, out, embed=embed)
    path.touch()
    with pytest.raises(ImageError, match=where % "the file is empty"):
        materialize(root, out, embed=embed)
    assert {path.name for path in out.rglob("*")} == {MARKER, LOCK}
    path.write_bytes(pixels)
    assert materialize(root, out, embed=embed) == 9


def test_missing_images_can_be_skipped(root, tmp_path):
    dataset = MultiLabelImageNet(root)
    Path(dataset.path(4)).unlink()
    assert materialize(root, tmp_path / "out", missing="skip") == 8
    for index in range(9):
        Path(dataset.path(index)).unlink(missing_ok=True)
    with pytest.raises(ImageError, match="none of 9 annotated images looked for is here"):
        materialize(root, tmp_path / "out", missing="skip")


def test_a_failure_keeps_existing_shards(root, tmp_path):
    out = tmp_path / "out"
    materialize(root, out)
    (shard,) = (out / "data").iterdir()
    before = shard.read_bytes()
    Path(MultiLabelImageNet(root).path(8)).unlink()
    with pytest.raises(ImageError):
        materialize(root, out)
    assert list((out / "data").iterdir()) == [shard]
    assert shard.read_bytes() == before


def test_splits_share_a_folder_and_are_replaced_one_at_a_time(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("mlimagenet_data.materialize._FILE_ROWS", {False: 4, True: 2})
    out = tmp_path / "out"
    for split, count in (("train", 9), ("train_small", 3), ("val", 5)):
        rows = random_rows(count)
        write_rows(tmp_path / "annotations", rows, split=split)
        write_images(tmp_path, rows, split=split)
        if split != "train":  # a split's name may begin with another's, so the store gets a list of files
            source = [tmp_path / "annotations" / "data" / f"{split}-00000-of-00001.parquet"]
            assert materialize(tmp_path, out, annotations=source, split=split) == count
    source = [tmp_path / "annotations" / "data" / "train-00000-of-00001.parquet"]
    for embed in (False, True, False):
        assert materialize(tmp_path, out, annotations=source, embed=embed) == 9
        loaded = datasets.load_dataset(str(out))
        assert {name: len(part) for name, part in loaded.items()} == {"train": 9, "train_small": 3, "val": 5}
    with pytest.raises(ValueError, match=r"train-00000-of-00003.parquet: its targets are of the other kind"):
        materialize(tmp_path, out, annotations=tmp_path / "annotations", split="val", target="soft")
    mlimagenet(
        ["materialize", str(tmp_path), str(out), "--annotations", str(tmp_path / "annotations"), "--split", "val"]
    )
    assert "--train-split train --val-split" in capsys.readouterr().out


def test_the_annotations_are_not_overwritten(root):
    with pytest.raises(OutputError, match="must not contain one another"):
        materialize(root, root / "mlimagenet")
    assert len(AnnotationStore(root / "mlimagenet", "train")) == 9


def contents(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != LOCK
    }


@pytest.mark.parametrize(
    "name", ["README.md", "data/train-00000-of-00001.parquet", "data/train-00001-of-00002.parquet", "notes/.thesis.tmp"]
)
def test_files_in_the_way_are_refused_and_kept(root, tmp_path, name):
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    with pytest.raises(OutputError, match="which this project did not write"):
        materialize(root, out)
    assert contents(out) == {name: b"mine"}


def test_only_shards_of_ours_are_replaced(root, tmp_path):
    out = tmp_path / "out"
    materialize(root, out)
    mine = {"notes/.thesis.tmp": b"1", "data/.thesis.1-01234567.tmp": b"2", "data/notes.txt": b"3", "README.md": b"4"}
    for name, content in mine.items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(content)
    materialize(root, out)
    assert mine.items() <= contents(out).items()
    foreign = out / "data/val-00000-of-00001.parquet"
    foreign.write_bytes((out / "data/train-00000-of-00001.parquet").read_bytes())
    before = contents(out)
    with pytest.raises(OutputError, match=r"val-00000-of-00001\.parquet: exists, and this project did not write it"):
        materialize(root, out)
    assert contents(out) == before


@pytest.mark.parametrize("out", [".", "train", "train/out", "link", "link/out", "mlimagenet", "mlimagenet/out"])
def test_the_output_stays_out_of_the_inputs(root, out):
    (root / "link").symlink_to(root / "train")
    before = contents(root)
    with pytest.raises(OutputError, match="must not contain one another"):
        materialize(root, root / out)
    assert contents(root) == before


def test_embedding_copies_no_file_from_elsewhere(root, tmp_path):
    secret = tmp_path / "secret.png"
    path = Path(MultiLabelImageNet(root).path(4))
    path.rename(secret)
    path.symlink_to(secret)
    with pytest.raises(OutsideError, match=re.escape(f"leads to {secret}")):
        materialize(root, tmp_path / "out", embed=True)
    assert not (tmp_path / "out/data").exists()
    path.unlink()
    path.symlink_to(secret.rename(root / "train/elsewhere.png"))
    assert materialize(root, tmp_path / "out", embed=True) == 9


@pytest.mark.parametrize("embed", [False, True])
def test_only_regular_files_are_opened(root, tmp_path, embed):
    path = Path(MultiLabelImageNet(root).path(4))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ImageError, match="not a regular file"):
        materialize(root, tmp_path / "out", embed=embed)


def killed(root, out, step):
    KillAt(step)()
    materialize(root, out)


def test_a_killed_run_can_be_repeated(root, tmp_path):
    materialize(root, tmp_path / "undisturbed")
    for step in (1, 9, 13, 16, 18, 20):
        out = tmp_path / f"out{step}"
        child = CONTEXT.Process(target=killed, args=(root, out, step))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        assert materialize(root, out) == 9
        assert contents(out) == contents(tmp_path / "undisturbed")


def test_unknown_targets_are_refused(root, tmp_path):
    with pytest.raises(ValueError, match="multi_hot or soft"):
        materialize(root, tmp_path / "out", target="pooled")


def test_the_command_reports_errors_without_a_traceback(root, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        mlimagenet(["materialize", str(root), str(tmp_path / "out"), "--original", "never"])
    assert stopped.value.code == 2
    assert "choose from" in capsys.readouterr().err
    assert mlimagenet(["materialize", str(root), str(tmp_path / "out"), "--split", "test"]) == 1
    assert "no annotations for split 'test'" in capsys.readouterr().err
    assert mlimagenet(["materialize", str(root), str(root / "mlimagenet")]) == 1
    assert "choose another place for the output" in capsys.readouterr().err
