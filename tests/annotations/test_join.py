import os

from PIL import Image

from mlimagenet_data.annotations.join import join_images
from mlimagenet_data.annotations.locate import ImageLocator
from mlimagenet_data.annotations.store import AnnotationStore
from tests.support.annotated import row, write_rows


def test_a_photograph_by_a_second_link_to_its_folder_is_found_and_special_files_are_none(tmp_path):
    rows = [row(f"n01440764/{k}", (4, 4), [], label=0) | {"file_name": f"n01440764/{k}.png"} for k in range(3)]
    store = AnnotationStore(write_rows(tmp_path / "set", rows), "train")
    (tmp_path / "images" / "real").mkdir(parents=True)
    for k in range(2):
        Image.new("RGB", (4, 4)).save(tmp_path / "images" / "real" / f"{k}.png")
    os.mkfifo(tmp_path / "images" / "real" / "2.png")
    (tmp_path / "images" / "n01440764").symlink_to("real")
    report = join_images(store, ImageLocator(tmp_path / "images", store), sizes=True)
    assert (report.images, report.matched) == (3, 2)
    assert (report.missing, report.other_size) == (["n01440764/2.png"], [])
