import io
import os

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets.folder import pil_loader

from mlimagenet_data.errors import ImageError
from mlimagenet_data.images import image_size, load_image

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
    refuse(tmp_path / "text.jpg", "unreadable", "cannot identify")
    refuse(tmp_path / "none.jpg", "missing", "no such file")
    os.symlink("nowhere", tmp_path / "link.jpg")
    refuse(tmp_path / "link.jpg", "missing", "broken symbolic link")
    IMAGE.save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-200])
    refuse(tmp_path / "cut.jpg", "unreadable", "truncated")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    refuse(tmp_path / "whole.jpg", "too_large", "exceeds limit")
