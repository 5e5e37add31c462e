import errno
import io
import os
import pickle
import re
import socket
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from torchvision.datasets.folder import pil_loader

from mlimagenet_data.annotations.schema import STATUSES, TRANSIENT_STATUSES
from mlimagenet_data.errors import ImageError
from mlimagenet_data.files import memory
from mlimagenet_data.images import fault_status, image_size, load_image, open_image

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
IMAGE = Image.fromarray(PIXELS)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_load_as_in_torchvision(tmp_path, mode):
    IMAGE.convert(mode).save(tmp_path / "a.jpg")
    np.testing.assert_array_equal(
        np.asarray(load_image(tmp_path / "a.jpg")), np.asarray(pil_loader(str(tmp_path / "a.jpg")))
    )


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    image = Image.fromarray(PIXELS[..., 0].astype(np.uint16)) if mode == "I;16" else IMAGE.convert(mode)
    image.save(tmp_path / "named.JPEG", "PNG")
    loaded = load_image(tmp_path / "named.JPEG")
    assert (loaded.mode, loaded.size) == ("RGB", (20, 12))


def test_a_palette_with_transparency_loads_without_warning(tmp_path):
    IMAGE.convert("P").save(tmp_path / "a.png", transparency=bytes(range(256)))
    assert load_image(tmp_path / "a.png").mode == "RGB"


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    values = np.array([[0, 128, 257, 65535, 32896]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.asarray(load_image(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 0, 1, 255, 128]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # the orientation's inverse, as Pillow's transpositions
    stored = IMAGE if orientation == 1 else IMAGE.transpose({6: 2, 8: 4}.get(orientation, turns[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("a.png", "a.tif", "a.webp"):
        stored.save(tmp_path / name, exif=exif, lossless=True)
        np.testing.assert_array_equal(np.asarray(load_image(tmp_path / name)), PIXELS)


def _reads_xmp():
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, "WEBP", xmp=packet)
    with Image.open(file) as image:
        return image.getexif().get(0x0112) == 3


needs_xmp = pytest.mark.skipif(not _reads_xmp(), reason="this release of Pillow does not read the orientation from XMP")


@needs_xmp
def test_an_orientation_in_xmp_is_applied(tmp_path):
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
    IMAGE.transpose(Image.Transpose.ROTATE_180).save(tmp_path / "a.webp", xmp=packet, lossless=True)
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "a.webp")), PIXELS)


@pytest.mark.parametrize("orientation", range(1, 10))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
def test_the_size_matches_the_loaded_image(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    IMAGE.save(tmp_path / name, exif=exif)
    loaded = load_image(tmp_path / name)
    assert image_size(tmp_path / name) == (loaded.height, loaded.width)
    IMAGE.save(tmp_path / "plain.png")
    assert image_size(tmp_path / "plain.png") == (12, 20)


@needs_xmp
def test_the_size_with_an_xmp_orientation_matches_the_loaded_image(tmp_path):
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    IMAGE.save(tmp_path / "a.webp", xmp=packet)
    assert image_size(tmp_path / "a.webp") == load_image(tmp_path / "a.webp").size[::-1] == (20, 12)


def test_the_size_of_an_unreadable_file_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    for path, status in ((tmp_path / "a.png", "unreadable"), (tmp_path / "b.png", "missing")):
        with pytest.raises(ImageError) as caught:
            image_size(path)
        assert caught.value.status == status


def test_open_files_can_be_loaded():
    buffer = io.BytesIO()
    IMAGE.save(buffer, "PNG")
    buffer.seek(0)
    np.testing.assert_array_equal(np.asarray(load_image(buffer)), PIXELS)
    with pytest.raises(ImageError, match="image in memory"):
        load_image(io.BytesIO(b"nothing"))


def refuse(path, status, words):
    with pytest.raises(ImageError, match=words) as caught:
        load_image(path)
    assert caught.value.status == status
    assert str(path) in str(caught.value)


def test_errors_state_why_a_file_is_not_an_image(tmp_path, monkeypatch):
    (tmp_path / "empty.jpg").write_bytes(b"")
    refuse(tmp_path / "empty.jpg", "unreadable", "empty")
    (tmp_path / "text.jpg").write_text("text")
    refuse(tmp_path / "text.jpg", "unreadable", "not an image of these formats: JPEG, PNG, PPM, BMP, TIFF, WEBP")
    refuse(tmp_path / "none.jpg", "missing", "no such file")
    os.symlink("nowhere", tmp_path / "link.jpg")
    refuse(tmp_path / "link.jpg", "missing", "broken symbolic link")
    IMAGE.save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-200])
    refuse(tmp_path / "cut.jpg", "unreadable", "truncated")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    refuse(tmp_path / "whole.jpg", "too_large", "exceeds limit")


ROOT = Path(__file__).parents[1]
NOT_READ = ["GIF", "ICO", "TGA", "PCX", "SGI", "MSP", "DDS", "JPEG2000", "EPS", "PDF"]


@pytest.mark.parametrize("kind", NOT_READ)
def test_a_file_of_any_other_format_is_unreadable_and_starts_no_program(tmp_path, monkeypatch, kind):
    for program in ("gs", "gswin32c", "djpeg"):  # that Pillow starts
        (tmp_path / program).write_text(f"#!/bin/sh\ntouch {tmp_path}/started\necho 10\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # Pillow remembers whether there is one
    IMAGE.convert("1" if kind == "MSP" else "RGB").save(tmp_path / "a.jpg", kind)
    refuse(tmp_path / "a.jpg", "unreadable", "not an image of these formats")
    with pytest.raises(ImageError, match="not an image of these formats"):
        image_size(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="not an image of these formats"):
        load_image(io.BytesIO((tmp_path / "a.jpg").read_bytes()))
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "MPO"])
def test_the_formats_are_read_whatever_the_name(tmp_path, kind):
    IMAGE.save(tmp_path / "a.dat", kind)
    assert load_image(tmp_path / "a.dat").size == (20, 12)
    assert image_size(tmp_path / "a.dat") == (12, 20)


def test_a_format_can_be_asked_for(tmp_path):
    IMAGE.save(tmp_path / "a.png", "JPEG")
    with (
        pytest.raises(ImageError, match=r"a\.png: not an image of these formats: PNG$"),
        open_image(tmp_path / "a.png", formats=("PNG",)),
    ):
        pass


def test_images_are_opened_in_one_place():
    """Another place would read formats that start programs, and wait for FIFOs."""
    opened = re.compile(r"\bImage\.open\(|\bdecode_image\(|\bread_image\(|\bimread\(|\bpil_loader\b")
    folders = ("mlimagenet_data", "build", "examples", "experiments", "benchmarks", "docs")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md")]
    found = {str(path.relative_to(ROOT)) for path in paths if opened.search(path.read_text(encoding="utf-8"))}
    assert found == {"mlimagenet_data/images.py"}


@pytest.fixture
def special(tmp_path):
    """Return what is named like photographs, but is no file."""
    os.mkfifo(tmp_path / "fifo.jpg")
    os.symlink("fifo.jpg", tmp_path / "link.jpg")
    (tmp_path / "folder.jpg").mkdir()
    os.symlink("/dev/zero", tmp_path / "device.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(tmp_path)  # a socket's path has at most 108 bytes
        server.bind("socket.jpg")
        os.chdir(here)
        yield {name: tmp_path / f"{name}.jpg" for name in ("fifo", "link", "folder", "device", "socket")}


def test_what_is_no_file_is_unreadable_at_once(special):
    for path in special.values():
        refuse(path, "unreadable", "not a regular file")
        with pytest.raises(ImageError, match="not a regular file") as caught:
            image_size(path)
        assert caught.value.status == "unreadable"


TRANSIENT = [errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.ENODEV,
             errno.ENXIO, errno.EHOSTDOWN, errno.EMFILE, errno.ENOMEM]  # fmt: skip


@pytest.mark.parametrize("number", TRANSIENT)
def test_a_fault_of_the_system_is_not_damage(tmp_path, monkeypatch, number):
    IMAGE.save(tmp_path / "a.jpg")

    def fail(*_):
        raise OSError(number, os.strerror(number), str(tmp_path / "a.jpg"))

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", fail)
        refuse(tmp_path / "a.jpg", "inaccessible", re.escape(f"a.jpg: {os.strerror(number)}") + "$")
    assert load_image(tmp_path / "a.jpg").size == (20, 12)


class Failing(io.BytesIO):
    """A file on a disk that fails after its first bytes."""

    def read(self, size=-1):
        if self.tell() > 100:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(size)


def test_a_disk_that_fails_while_an_image_is_read_is_not_damage():
    file = Failing()
    IMAGE.save(file, "PNG")
    file.seek(0)
    with pytest.raises(ImageError, match="Input/output error") as caught:
        load_image(file)
    assert caught.value.status == "inaccessible"


def test_what_is_not_there_is_missing(tmp_path):
    (tmp_path / "a.jpg").write_text("text")
    refuse(tmp_path / "a.jpg" / "b.jpg", "missing", "no such file")
    os.symlink("loop.jpg", tmp_path / "loop.jpg")
    refuse(tmp_path / "loop.jpg", "missing", "broken symbolic link")


def test_every_error_of_reading_has_a_status():
    statuses = {
        "missing": FileNotFoundError(errno.ENOENT, ""), "inaccessible": PermissionError(errno.EACCES, ""),
        "too_large": MemoryError(), "unreadable": OSError("image file is truncated"),
    }  # fmt: skip
    assert {name: fault_status(error) for name, error in statuses.items()} == {name: name for name in statuses}
    assert fault_status(ImageError("", status="missing")) == "missing"
    assert fault_status(ValueError()) == "unreadable"
    assert set(statuses) | {"ok", "no_regions"} == set(STATUSES)


def test_statuses_keep_their_places_since_indexes_store_them():
    assert list(STATUSES) == ["ok", "no_regions", "unreadable", "missing", "too_large", "inaccessible"]
    assert set(STATUSES) > TRANSIENT_STATUSES


def test_pillows_warnings_never_escape(tmp_path, monkeypatch):
    IMAGE.save(tmp_path / "a.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)  # of 240: Pillow warns, and refuses from 400 on
    refuse(tmp_path / "a.jpg", "too_large", "exceeds limit")  # warnings are errors in these tests
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert load_image(tmp_path / "a.jpg").size == (20, 12)


def test_a_file_of_more_bytes_than_any_image_is_too_large(tmp_path):
    IMAGE.save(tmp_path / "a.webp")
    os.truncate(tmp_path / "a.webp", 1 << 40)  # sparse; Pillow would read it whole
    refuse(tmp_path / "a.webp", "too_large", "must have at most 2147483648")


def write_gray(path, side):
    """Write a black 16-bit PNG of side x side pixels in little memory."""
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes(1 + 2 * side)) for _ in range(side)) + packer.flush()

    def chunk(kind, content):
        return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)

    header = side.to_bytes(4) * 2 + bytes((16, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


LIMITED = """
import re, resource, sys
from mlimagenet_data.errors import ImageError
from mlimagenet_data.images import load_image

load_image(sys.argv[2])  # imports what it needs
used = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + (int(sys.argv[3]) << 20),) * 2)
try:
    print(load_image(sys.argv[1]).size)
except ImageError as error:
    print(error.status, error)
print(load_image(sys.argv[2]).size)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads Linux's counts of memory")
@pytest.mark.parametrize(
    ("mebibytes", "words"), [(60, "too_large .*large.png: not enough memory for 4000 x 4000 pixels"), (160, r"\(4000,")]
)
def test_too_little_memory_is_a_status_and_sixteen_bits_take_little(tmp_path, mebibytes, words):
    write_gray(tmp_path / "large.png", 4000)  # 31 MiB decoded, 61 MiB as RGB; four copies in 64 bits would be 490
    IMAGE.save(tmp_path / "small.png")
    arguments = [str(tmp_path / "large.png"), str(tmp_path / "small.png"), str(mebibytes)]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True
    )
    first, second = done.stdout.splitlines()
    assert re.search(words, first), first
    assert second == "(20, 12)"


def test_the_declared_size_is_checked_before_memory_is_taken(tmp_path, monkeypatch):
    write_gray(tmp_path / "a.png", 4200)
    monkeypatch.setattr(memory, "available_memory", lambda: 1 << 28)
    monkeypatch.setattr(Image.Image, "load", None)  # must not be called
    refuse(tmp_path / "a.png", "too_large", "not enough memory for 4200 x 4200 pixels")
    with pytest.raises(ImageError, match="not enough memory"):
        image_size(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a\x1b[31m.jpg", os.fsdecode(b"a\xff.jpg"), "a\u202egpj.jpg"])
def test_an_error_names_the_file_in_printable_form(tmp_path, name):
    with pytest.raises(ImageError, match=r"a\?.*: no such file") as caught:
        load_image(tmp_path / name)
    assert str(caught.value).isprintable()
    str(caught.value).encode()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's
@pytest.mark.parametrize("suffix", ["webp", "png", "jpg"])
@pytest.mark.parametrize(
    "exif", [b"rubbish", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12", b""]
)
def test_damaged_exif_is_no_fault_of_the_image(tmp_path, suffix, exif):
    path = tmp_path / f"a.{suffix}"
    IMAGE.save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    found = load_image(path)
    assert (found.size, found.mode) == (IMAGE.size, "RGB")
    assert image_size(path) == (IMAGE.height, IMAGE.width)
    with Image.open(path) as native:
        np.testing.assert_array_equal(np.asarray(found), np.asarray(native.convert("RGB")))


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_orientations_that_do_not_exist_turn_nothing(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    IMAGE.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "a.png")), np.asarray(IMAGE))


def test_an_upright_image_is_not_turned_again(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    IMAGE.save(tmp_path / "a.png", exif=exif)
    found = load_image(tmp_path / "a.png")
    assert ImageOps.exif_transpose(found).size == found.size == IMAGE.size[::-1]


def test_errors_keep_their_status_between_processes():
    error = pickle.loads(pickle.dumps(ImageError("a.png: no such file", status="missing")))
    assert (type(error), str(error), error.status) == (ImageError, "a.png: no such file", "missing")
