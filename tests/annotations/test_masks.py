import numpy as np
import pycocotools.mask as coco_mask
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from mlimagenet_data.annotations.masks import decode_mask, encode_mask, parse_counts, parse_runs
from mlimagenet_data.errors import AnnotationError

masks = st_numpy.arrays(np.bool_, st_numpy.array_shapes(min_dims=2, max_dims=2, max_side=40))


@given(masks)
def test_decoding_inverts_encoding(mask):
    np.testing.assert_array_equal(decode_mask(mask.shape, encode_mask(mask)), mask)


@given(masks)
def test_decoding_agrees_with_pycocotools(mask):
    counts = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    np.testing.assert_array_equal(decode_mask(mask.shape, counts), mask)
    np.testing.assert_array_equal(
        coco_mask.decode({"size": list(mask.shape), "counts": encode_mask(mask)}).astype(bool), mask
    )


@given(st.one_of(st.binary(max_size=40), st.text(max_size=40)), st.integers(1, 50), st.integers(1, 50))
def test_any_counts_decode_or_are_refused(counts, height, width):
    try:
        mask = decode_mask((height, width), counts)
    except AnnotationError:
        return
    assert mask.shape == (height, width)


@given(st.lists(masks, min_size=1, max_size=5), st.data())
def test_parsing_many_masks_agrees_with_parsing_each(several, data):
    texts = [encode_mask(mask).encode() for mask in several]
    damaged = data.draw(st.integers(0, len(texts)))
    if damaged < len(texts):
        texts[damaged] = data.draw(st.binary(min_size=1, max_size=12))
    cells = np.array([mask.size for mask in several])
    offsets = np.concatenate(([0], np.cumsum([len(text) for text in texts])))
    runs, counts, good = parse_runs(np.frombuffer(b"".join(texts), np.uint8), offsets, cells)
    begin = 0
    for k, text in enumerate(texts):
        try:
            expected = parse_counts(text, int(cells[k]))
        except AnnotationError:
            expected = None
        assert good[k] == (expected is not None)
        if expected is not None:
            np.testing.assert_array_equal(runs[begin : begin + counts[k]], expected)
        begin += counts[k]


DAMAGED = {
    "empty": "",
    "cut off": "o",
    "long": "oooooooooo0",
    "sum": "41",
    "byte": "\xff",
    "kana": "\u3042",
    "negative": "P1",
}


@pytest.mark.parametrize("counts", DAMAGED.values(), ids=DAMAGED)
def test_damaged_counts_are_refused(counts):
    with pytest.raises(AnnotationError, match="RLE counts"):
        decode_mask((4, 4), counts)


@pytest.mark.parametrize("size", [(0, 4), (-1, 4), (1 << 20, 1 << 20)])
def test_sizes_are_checked_before_memory_is_allocated(size):
    with pytest.raises(AnnotationError, match="mask size"):
        decode_mask(size, "0")


@pytest.mark.parametrize("mask", [np.zeros((2, 2)), np.zeros(4, bool), np.zeros((1, 2, 2), bool)])
def test_only_bool_matrices_are_encoded(mask):
    with pytest.raises(ValueError, match="2-d bool"):
        encode_mask(mask)
