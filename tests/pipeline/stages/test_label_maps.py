"""ReLabel's label maps, in their published form; the files are written here."""

import errno
import io
import os
import resource
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

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


LEGACY = {"_use_new_zipfile_serialization": False}


@pytest.mark.parametrize("options", [{}, LEGACY])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_both_layouts_of_torch_and_all_layouts_of_a_tensor_are_read(tmp_path, dtype, options):
    tensor = torch.stack((torch.rand(5, 3, 4), torch.randint(0, 256, (5, 3, 4)).float())).to(dtype)
    for saved in (tensor, tensor.permute(0, 1, 3, 2), torch.stack((tensor, tensor))[1], tensor[:, 1:3]):
        torch.save(saved, tmp_path / "a.pt", **options)
        assert torch.equal(read_label_map(tmp_path, "a"), saved.float())


def unusual(kind):
    tensor = torch.rand(4, 4)
    return {
        "csr": tensor.to_sparse_csr, "csc": tensor.to_sparse_csc, "bsr": lambda: tensor.to_sparse_bsr((2, 2)),
        "bsc": lambda: tensor.to_sparse_bsc((2, 2)), "coo": tensor.to_sparse, "meta": lambda: tensor.to("meta"),
        "complex": lambda: torch.zeros(2, 5, 3, 3, dtype=torch.complex64), "bool": lambda: tensor > 0,
        "quantized": lambda: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), "array": tensor.numpy,
        "list": lambda: [tensor], "bytearray": lambda: bytearray(9), "parameter": lambda: torch.nn.Parameter(tensor),
        "expanded": lambda: torch.zeros(1).expand(2, 5, 60, 60), "empty": lambda: torch.zeros(2, 5, 0, 0),
        "large logit": lambda: torch.full((2, 5, 3, 3), 1e30), "flat": lambda: torch.zeros(()),
    }[kind]()  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # torch announces changes to sparse and quantized tensors
@pytest.mark.parametrize("options", [{}, LEGACY])
@pytest.mark.parametrize(
    "kind",
    ["csr", "csc", "bsr", "bsc", "coo", "meta", "complex", "bool", "quantized", "array", "list", "bytearray",
     "parameter", "expanded", "empty", "large logit", "flat"],
)  # fmt: skip
def test_any_other_kind_of_tensor_is_damaged(tmp_path, kind, options):
    torch.save(unusual(kind), tmp_path / "a.pt", **options)
    with pytest.raises(LabelMapError, match=r"a\.pt: ") as refused:
        read_label_map(tmp_path, "a")
    assert refused.value.status == "damaged"


def saved(**options):
    file = io.BytesIO()
    torch.save(torch.zeros(2, 5, 15, 15), file, **options)
    return file.getvalue()


def bomb(kind):
    """Return a small file that asks for gigabytes."""
    elements = 700_000_000
    if kind == "archive":
        file = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(saved())) as valid, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
            content = valid.read("archive/data.pkl")
            packed.writestr("archive/data.pkl", content.replace(b"M\xca\x08", b"J" + struct.pack("<i", elements)))
            with packed.open("archive/data/0", "w", force_zip64=True) as member:
                member.write(bytes(64 << 20))
        return file.getvalue()
    if kind == "stream":
        content = saved(**LEGACY).replace(b"M\xca\x08", b"J" + struct.pack("<i", elements))
        return content.replace(struct.pack("<q", 2250), struct.pack("<q", elements))
    return {
        "bytearray": b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\0\0\0\0\x10\x85R.",
        "memo": b"\x80\x02K\x01r\xff\xff\xff\x7f.",
        "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 33) + b"a.",
        "frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 33) + b"a.",
    }[kind]


@pytest.mark.parametrize("kind", ["archive", "stream", "bytearray", "memo", "bytes", "frame"])
def test_a_small_file_takes_little_memory_whatever_it_declares(tmp_path, kind):
    (tmp_path / "a.pt").write_bytes(bomb(kind))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LabelMapError) as refused:
        read_label_map(tmp_path, "a")
    assert refused.value.status == "damaged"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10  # KiB


def test_a_large_file_is_not_read(tmp_path):
    (tmp_path / "a.pt").touch()
    os.truncate(tmp_path / "a.pt", 1 << 40)
    with pytest.raises(LabelMapError, match="1099511627776 bytes; must have at most 4194304"):
        read_label_map(tmp_path, "a")


def test_what_cannot_be_opened_is_inaccessible_and_a_fifo_damaged(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo.pt")
    (tmp_path / "a.pt").write_bytes(saved())
    monkeypatch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    for name, status in (("fifo", "damaged"), ("a", "inaccessible")):
        with pytest.raises(LabelMapError) as refused:
            read_label_map(tmp_path, name)
        assert refused.value.status == status


@given(st.binary(max_size=400), st.integers(0, 9000), st.booleans())
@example(patch=b"\x96", place=0, legacy=False)  # an opcode that allocates a bytearray of any size
def test_whatever_the_bytes_are_a_map_is_read_or_damaged(tmp_path_factory, patch, place, legacy):
    folder = tmp_path_factory.getbasetemp()
    content = bytearray(saved(**(LEGACY if legacy else {})))
    content[place : place + len(patch)] = patch
    (folder / "patched.pt").write_bytes(content)
    try:
        assert read_label_map(folder, "patched").dtype == torch.float32
    except LabelMapError as error:
        assert error.status == "damaged"  # noqa: PT017


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
