import numpy as np
import pytest

from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.cli import main
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.predictions import Predictions, save_predictions
from mlimagenet_data.evaluate.sets.class_lists import read_validation_classes
from mlimagenet_data.evaluate.sets.multilabel import open_imagenet_m, open_multilabel
from mlimagenet_data.evaluate.sets.real import open_real
from tests.evaluate.test_sets import annotations, real_lists, touch, val, write

WNIDS = imagenet_classes().wnids


@pytest.mark.parametrize(
    "text",
    [
        f"ILSVRC2012_val_00000003.JPEG {WNIDS[65]}\nILSVRC2012_val_00000001.JPEG {WNIDS[970]}\n",
        "ILSVRC2012_val_00000003.JPEG 65\r\nval/ILSVRC2012_val_00000001.JPEG\t970\r\n\r\n",
        f"ImageId,PredictionString\nILSVRC2012_val_00000003,{WNIDS[65]} 85 1 499 272 {WNIDS[65]} 3 4 5 6\n"
        f"ILSVRC2012_val_00000001,{WNIDS[970]} 131 0 499 254 \n",
    ],
)
def test_lists_of_names_and_classes_are_read(tmp_path, text):
    assert read_validation_classes(write(tmp_path / "list.txt", text)) == {1: 970, 3: 65}


def test_a_list_of_wnids_is_in_the_order_of_the_files(tmp_path):
    classes = np.random.default_rng(0).integers(0, 1000, 50_000).tolist()
    found = read_validation_classes(write(tmp_path / "list.txt", "\n".join(WNIDS[k] for k in classes)))
    assert list(found) == list(range(1, 50_001))
    assert list(found.values()) == classes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"0 lines, the first is \[\]; must have lines with an image name"),
        ("65\n970\n", r"2 lines, the first is \['65'\]"),
        (f"{WNIDS[0]}\n" * 49_999 + "n00000000", "line 50000: 'n00000000' is not a class"),
        ("490\n" * 50_000, "line 1: '490'; a list without image names must hold wnids: .*LOC_val_solution.csv"),
        (
            f"{val(1)} 65\n{val(2)}\n",
            "line 2: 'ILSVRC2012_val_00000002.JPEG'; must have an image name and its class",
        ),
        (f"{val(1)} 65\n{val(2)} 1000\n", "line 2: '1000' is not a class of ImageNet-1k"),
        (f"{val(1)} 65\n{val(2)} {'9' * 5000}\n", "line 2: '999"),
        (f"{val(1)} 65\n{val(2)} 3\n{val(1)} 65\n", "line 3: duplicate validation image 1"),
    ],
)
def test_invalid_lists_are_rejected_with_the_line(tmp_path, text, message):
    with pytest.raises(EvaluationError, match=f"list.txt: {message}"):
        read_validation_classes(write(tmp_path / "list.txt", text))


def test_files_that_are_not_text_are_rejected(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EvaluationError, match=r"list.txt: not text"):
        read_validation_classes(tmp_path / "list.txt")
    with pytest.raises(EvaluationError, match=r"none.txt: no such file"):
        read_validation_classes(tmp_path / "none.txt")


def test_images_in_a_flat_folder_get_original_classes_from_a_list(tmp_path):
    root = touch(tmp_path / "val", val(1), val(4), val(5), val(64))
    class_list = write(tmp_path / "list.txt", "".join(f"{val(k)} {k}\n" for k in (1, 4, 64)))
    human = write(tmp_path / "human.json", annotations())
    real = open_real(root, write(tmp_path / "real.json", real_lists()), class_list=class_list, partial=True)
    assert real.original.tolist() == [1, 4, -1, 64]
    assert open_multilabel(root, human, class_list=class_list).original.tolist() == [1, 4, -1, 64]
    assert open_imagenet_m(root, human, class_list=class_list).original.tolist() == [4, 64]


def test_a_list_that_contradicts_the_folders_is_rejected(tmp_path):
    root = touch(tmp_path / "val", f"{WNIDS[7]}/{val(1)}", f"ILSVRC2012_val_00000002_{WNIDS[8]}.JPEG")
    labels = write(tmp_path / "real.json", real_lists())
    for number, known, file in ((1, 7, f"{WNIDS[7]}/{val(1)}"), (2, 8, f"{WNIDS[8]}.JPEG")):
        class_list = write(tmp_path / "list.txt", f"{val(number)} 9\n")
        with pytest.raises(EvaluationError, match=rf"list.txt: image {number} has class 9, but {known} in .*{file}"):
            open_real(root, labels, class_list=class_list, partial=True)


def test_eval_reports_top_1_of_a_flat_folder_with_a_class_list(tmp_path, capsys):
    root = touch(tmp_path / "val", val(1), val(2))
    labels = write(tmp_path / "real.json", real_lists(n1=[5], n2=[6]))
    class_list = write(tmp_path / "list.txt", f"{val(1)} 5\n{val(2)} 7\n")
    logits = np.eye(1000, dtype=np.float32)[[5, 6]]
    save_predictions(tmp_path / "p.safetensors", Predictions(logits, "eye"), [val(1), val(2)])
    command = ["eval", "--predictions", str(tmp_path / "p.safetensors"), "--data", f"real:{root}", "--partial",
               "--labels", str(labels)]  # fmt: skip
    assert main(command) == 0
    assert "top-1 of original label           -\n" in capsys.readouterr().out
    assert main([*command, "--class-list", str(class_list)]) == 0
    text = capsys.readouterr().out
    assert "top-1 of original label           50.00%\n" in text
    assert "best class is valid               100.00%\n" in text
    assert main(["eval", "--model", "x", "--data", f"folder:{root}", "--class-list", "y"]) == 1
    assert "--class-list y: only for --data real, multilabel, imagenet-m" in capsys.readouterr().err
