"""How one image's annotations are packed into an index record: a header, then arrays."""

from __future__ import annotations

import numpy as np

from mlimagenet_data.annotations.schema import STATUSES

__all__ = ["HEADER", "LAYOUT", "STATUS_NAMES"]

STATUS_NAMES = tuple(STATUSES)
# An image's record is this header, and then the arrays of LAYOUT, one after the other, little-endian and unaligned.
HEADER = np.dtype([
    ("height", "<i4"), ("width", "<i4"),  # 0 where the file could not be read
    ("original", "<i2"),  # -1 where there is none
    ("status", "<u2"),  # position in STATUS_NAMES
    ("labels", "<u2"), ("regions", "<u2"), ("name", "<u2"), ("id", "<u2"),  # lengths
    ("topk", "<u4"), ("runs", "<u4"),  # lengths over all regions
])  # fmt: skip
LAYOUT = (
    # name, type, the header's field that says how many
    ("label_class", "<i2", "labels"),
    ("label_score", "<f4", "labels"),
    ("grid_height", "<u2", "regions"),
    ("grid_width", "<u2", "regions"),
    ("cells", "<u4", "regions"),  # number of cells in the mask
    ("runs_of", "<u4", "regions"),
    ("topk_of", "<u4", "regions"),
    ("best_class", "<i2", "regions"),
    ("best_score", "<f4", "regions"),
    ("topk_class", "<i2", "topk"),
    ("topk_score", "<f4", "topk"),
    (
        "run_column",
        "<u2",
        "runs",
    ),  # the cell after each run's last; columns first, background first, an even number a region
    ("run_row", "<u2", "runs"),
    ("name", "u1", "name"),
    ("id", "u1", "id"),
)
