"""Read image sizes in parallel."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from mlimagenet_data.annotations.locate import ImageListing
from mlimagenet_data.errors import ImageError
from mlimagenet_data.images import image_size

__all__ = ["with_sizes"]

_THREADS = 16
Size = tuple[int | None, int | None, str | None]  # height, width, and a status if the file cannot be used


def with_sizes(table: pa.Table, images: ImageListing) -> pa.Table:
    """Return rows with `height`, `width` and `status` from the image files.

    Known sizes are kept. Rows whose file is missing or unreadable get that status and no size, but keep their labels.

    Args:
        table: Rows with `image_id` and `file_name`; `height`, `width`, `regions` and `status` are all present or all
            absent.
        images: The copy of the images, in any naming that `mlimagenet_data.names` supports.
    """

    def size(name: str) -> Size:
        try:
            return (*image_size(os.path.join(images.folder, name)), None)
        except ImageError as error:
            return (None, None, error.status)

    def read(name: str, image_id: str) -> Size:
        found = size(name)
        other = images.find(image_id) if found[2] == "missing" else None
        return found if other is None else size(other)

    names, ids = table["file_name"].to_pylist(), table["image_id"].to_pylist()
    with ThreadPoolExecutor(_THREADS) as pool:
        height, width, bad = zip(*pool.map(read, names, ids), strict=True)
    statuses = pa.array(bad, pa.string())
    columns = {name: table[name] for name in table.column_names}
    columns["status"] = pc.coalesce(statuses, columns.get("status", pa.scalar("no_regions")))
    for name, values in (("height", height), ("width", width)):
        sizes = pa.array(values, pa.int32())
        kept = pc.coalesce(columns[name], sizes) if name in columns else sizes
        columns[name] = pc.if_else(pc.is_valid(statuses), pa.scalar(None, pa.int32()), kept)
    return pa.table(columns)
