"""ReLabel's label maps, in their published form; the files are written here."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from build import BuildConfig, relabel
from build.config.options import ConfigError
from mlimagenet_data.annotations.store import AnnotationStore
from mlimagenet_data.labelling.label_maps import LabelMapError, densify, read_label_map

CORPUS = Path(__file__).parents[2] / "corpus/label_maps"


def write_map(path, classes, logits=9.0, size=15):
    """A map whose best class is given for each place, the other four being classes 0 to 3 with small logits."""
    others = torch.arange(4).float()[:, None, None].expand(4, size, size)
    indices = torch.cat((classes.float()[None], others))
    values = torch.cat((torch.full((1, size, size), logits), torch.full((4, size, size), 0.1)))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(torch.stack((values, indices)), path)


def test_a_map_is_read_and_made_dense(tmp_path):
    classes = torch.full((15, 15), 7)
    classes[:, 8:] = 400
    write_map(tmp_path / "n01440764" / "a.pt", classes)
    dense = densify(read_label_map(tmp_path, "n01440764/a"))
    assert dense.shape == (1000, 15, 15)
    assert torch.equal(dense[7] == 9, classes == 7)
    assert torch.equal(dense[400] == 9, classes == 400)
    assert dense[500].abs().sum() == 0
    assert dense[2].unique().tolist() == [pytest.approx(0.1)]


def no_map(kind):
    good = torch.zeros(2, 5, 15, 15)
    if kind == "class":
        good[1, 0, 0, 0] = 1000
    if kind == "fraction":
        good[1, 0, 0, 0] = 0.5
    if kind == "nan":
        good[0, 1, 2, 3] = torch.nan
    return {"shape": good[0], "dict": {"a": 1}, "sparse": good.to_sparse(), "huge": torch.zeros(2, 1, 100, 100)}.get(
        kind, good
    )


@pytest.mark.filterwarnings("ignore:Validating sparse")
@pytest.mark.parametrize("kind", ["class", "fraction", "nan", "shape", "dict", "sparse", "huge"])
def test_the_error_for_an_invalid_map_names_file_and_reason(tmp_path, kind):
    torch.save(no_map(kind), tmp_path / "a.pt")
    with pytest.raises(LabelMapError, match=r"a\.pt: ") as refused:
        read_label_map(tmp_path, "a")
    assert refused.value.status == "damaged"


class Evil:
    def __reduce__(self):
        return (print, ("run",))


def test_pickled_code_is_never_run(tmp_path, capsys):
    torch.save(Evil(), tmp_path / "a.pt")
    with pytest.raises(LabelMapError):
        read_label_map(tmp_path, "a")
    assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"no pickle"])
def test_broken_files_are_damaged_and_absent_ones_missing(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    for name, status in (("a", "damaged"), ("b", "missing")):
        with pytest.raises(LabelMapError) as refused:
            read_label_map(tmp_path, name)
        assert refused.value.status == status


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("file", sorted(CORPUS.iterdir()), ids=lambda path: path.stem)
def test_files_that_once_got_through_are_damaged(file):
    with pytest.raises(LabelMapError) as refused:
        read_label_map(file.parent, file.stem)
    assert refused.value.status == "damaged"


def test_a_build_takes_alignment_and_peaks_from_the_maps(photographs, tmp_path):
    images = sorted(path for path in photographs.rglob("*") if path.is_file())
    maps = tmp_path / "maps"
    classes = torch.full((15, 15), 340)  # zebra, which is on none of them
    classes[4:11, 4:11] = 207
    write_map(maps / images[0].parent.name / f"{images[0].stem}.pt", classes)
    (maps / images[1].parent.name).mkdir(parents=True, exist_ok=True)
    (maps / images[1].parent.name / f"{images[1].stem}.pt").write_bytes(b"damaged")
    small = {"scan_size": 0, "image_size": 128, "label_threshold": 0.5}
    config = BuildConfig(images=str(photographs), out=str(tmp_path / "out"), label_maps=str(maps), **small)
    report = relabel(config)
    assert report.split["label_maps"] == {"damaged": 1, "missing": len(images) - 2, "ok": 1}
    store = AnnotationStore(report.out, "train")
    counts = {store.image_id(row).rpartition("/")[2]: len(store.record(row).regions) for row in range(len(store))}
    assert counts[images[0].stem] >= 2  # grown from the two classes of the map
    with pytest.raises(ConfigError, match="nowhere"):
        relabel(replace(config, label_maps=str(tmp_path / "nowhere")))
