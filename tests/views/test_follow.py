"""Followed views match the actual output. The test image's pixels encode their own coordinates."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from timm.data import transforms as timm_transforms
from torchvision import transforms as v1
from torchvision.transforms import v2

from mlimagenet_data.errors import UntrackableTransformError
from mlimagenet_data.views.follow import follow, transform_with_view
from mlimagenet_data.views.polygons import contains
from mlimagenet_data.views.view import View, _polygon

HEIGHT, WIDTH = 300, 400
NEAREST = v2.InterpolationMode.NEAREST
STEP = 255 / 254  # rounding step of a coordinate in grey values


def map_of_the_image():
    """Return an image with red = x, green = y, blue = 255; fill, padding and erasure are black."""
    ys, xs = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    return Image.fromarray(
        np.stack([xs * 255 / WIDTH, ys * 255 / HEIGHT, np.full(xs.shape, 255)], -1).round().astype(np.uint8)
    )


def applied(transform, seed):
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    output, view = transform_with_view(follow(transform), map_of_the_image())
    if isinstance(output, Image.Image):
        return np.asarray(output).astype(np.float64), view
    pixels = output.permute(1, 2, 0).numpy()
    return pixels * (255.0 if output.is_floating_point() else 1.0), view


def check(pixels, view: View, tolerance=2 * STEP):
    """Compare each pixel's encoded position and visibility with the view."""
    height, width = pixels.shape[:2]
    assert view.canvas_size == (height, width)
    xs, ys = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y, depth = np.einsum("ij,jhw->ihw", np.array(view.to_image).reshape(3, 3), np.stack([xs, ys, np.ones_like(xs)]))
    x, y = x / depth, y / depth
    shown = pixels[..., 2] > 200
    followed = np.zeros_like(shown)
    for piece in view.pieces:
        followed |= contains(_polygon(piece), x, y)
    assert (shown != followed).mean() < 0.01  # pixels on the border of the visible part
    if shown.any():
        error = np.maximum(np.abs(pixels[..., 0] - x * 255 / WIDTH), np.abs(pixels[..., 1] - y * 255 / HEIGHT))
        assert np.percentile(error[shown & followed], 90) < tolerance  # bilinear sampling mixes in fill at the border
        if view.to_image[6:8] == (0.0, 0.0):  # a projective map's pixels differ in area
            assert shown.mean() * view.area == pytest.approx(view.visible_area, rel=0.03, abs=0.01)


def tensor(*steps):
    return v2.Compose([v2.ToImage(), *steps])


V2 = {
    "random resized crop": v2.RandomResizedCrop(224, interpolation=NEAREST),
    "random resized crop of a tensor": tensor(v2.RandomResizedCrop((96, 128), interpolation=NEAREST)),
    "rotation": v2.RandomRotation(45),
    "expanding rotation": v2.RandomRotation(45, expand=True),
    "expanding rotation, tensor": tensor(v2.RandomRotation(45, expand=True)),
    "rotation about a point": v2.RandomRotation(45, center=(30, 50)),
    "rotation about a point, tensor": tensor(v2.RandomRotation(45, center=(30, 50))),
    "affine": v2.RandomAffine(30, (0.2, 0.1), (0.7, 1.4), (-20, 20, -10, 10)),
    "affine about a point, tensor": tensor(v2.RandomAffine(30, (0.2, 0.1), (0.7, 1.4), (-20, 20), center=(30, 40))),
    "perspective": v2.RandomPerspective(0.5, p=1, interpolation=NEAREST),
    "perspective of a tensor": tensor(v2.RandomPerspective(0.5, p=1, interpolation=NEAREST)),
    "perspective beyond the horizon": v2.RandomPerspective(1.0, p=1, interpolation=NEAREST),
    "zoom out": v2.RandomZoomOut(p=1),
    "crop, pad": v2.Compose([v2.RandomCrop(200, padding=30), v2.Pad((5, 10, 20, 0)), v2.CenterCrop(350)]),
    "erase twice": tensor(v2.RandomErasing(p=1), v2.RandomErasing(p=1), v2.RandomHorizontalFlip()),
    "erase, then rotate": tensor(v2.RandomErasing(p=1), v2.RandomRotation(30)),
    "everything": v2.Compose(
        [
            v2.RandomCrop(250),
            v2.RandomRotation(60),
            v2.RandomPerspective(p=1, interpolation=NEAREST),
            v2.CenterCrop(150),
        ]
    ),
}
V1 = {
    "standard": v1.Compose(
        [v1.RandomResizedCrop(224, interpolation=NEAREST), v1.RandomHorizontalFlip(), v1.ToTensor()]
    ),
    "erase": v1.Compose([v1.RandomVerticalFlip(), v1.RandomRotation(20), v1.ToTensor(), v1.RandomErasing(p=1)]),
    "containers": v1.Compose(
        [
            v1.RandomChoice([v1.RandomCrop(200, padding=10), v1.Pad(4)]),
            v1.RandomOrder([v1.RandomHorizontalFlip(), v1.RandomApply([v1.RandomAffine(10)], p=0.5)]),
            v1.RandomPerspective(interpolation=NEAREST),
        ]
    ),
    "own functions": v1.Compose(
        [
            lambda image: image.rotate(30, expand=True),
            lambda image: image.resize((200, 100), Image.Resampling.NEAREST, box=(5.5, 6, 200, 180)),
            lambda image: image.transpose(Image.Transpose.ROTATE_270),
            lambda image: image.transpose(Image.Transpose.TRANSPOSE),
            lambda image: image.crop((-10, 5, 90, 150)),
            lambda image: image.transform((80, 120), Image.Transform.EXTENT, (3, 4, 83, 90)),
        ]
    ),
}
TIMM = {
    "train": create_transform(
        96, is_training=True, color_jitter=0, interpolation="bilinear", mean=(0,) * 3, std=(1,) * 3
    ),
    "train, erase": create_transform(
        96,
        is_training=True,
        color_jitter=0,
        re_prob=1.0,
        re_count=3,
        interpolation="bilinear",
        mean=(0,) * 3,
        std=(1,) * 3,
    ),
    "train, keep ratio": create_transform(
        96,
        is_training=True,
        color_jitter=0,
        train_crop_mode="rkrc",
        interpolation="bilinear",
        mean=(0,) * 3,
        std=(1,) * 3,
    ),
    "eval": create_transform(96, mean=(0,) * 3, std=(1,) * 3),
    "eval, border": create_transform(96, crop_mode="border", crop_pct=1.2, mean=(0,) * 3, std=(1,) * 3),
    "crop or pad": v1.Compose([timm_transforms.RandomCropOrPad((350, 200)), timm_transforms.MaybeToTensor()]),
}
ALL = [
    pytest.param(t, id=f"{stack}: {name}")
    for stack, ts in (("v2", V2), ("v1", V1), ("timm", TIMM))
    for name, t in ts.items()
]


@pytest.mark.parametrize("transform", ALL)
def test_the_view_locates_every_pixel(transform):
    for seed in range(8):
        check(*applied(transform, seed))


@pytest.mark.parametrize("size", [(90, 91), (91, 90), (91, 91), (90, 90), (1, 37), (64, 3)])
@pytest.mark.parametrize("library", [v1, v2])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_expanding_rotations_have_the_size_of_the_output(size, library, as_tensor):
    image = Image.new("RGB", size[::-1])
    for angle in (90, -90, 180, 33.3, 89.99999, 0.0):
        rotation = library.RandomRotation((angle, angle), expand=True)
        transform = v2.Compose([v2.PILToTensor(), rotation]) if as_tensor else rotation
        output, view = transform_with_view(follow(transform), image)
        assert view.canvas_size == ((output.height, output.width) if not as_tensor else tuple(output.shape[1:]))
        assert view.visible_area == pytest.approx(1, abs=0.12 if min(size) < 4 else 0.02)


AUTO = {
    "v2 RandAugment": v2.RandAugment(3, 20),
    "v2 AutoAugment of a tensor": tensor(v2.AutoAugment()),
    "v2 TrivialAugment": v2.TrivialAugmentWide(),
    "v1 RandAugment": v1.RandAugment(3, 20),
    "timm RandAugment": create_transform(
        96, is_training=True, auto_augment="rand-m5-mstd0.5-inc1", interpolation="bilinear"
    ).transforms[2],
    "timm AutoAugment": create_transform(
        96, is_training=True, auto_augment="original", interpolation="bilinear"
    ).transforms[2],
}


class TestAutoAugment:
    @pytest.mark.parametrize("name", AUTO)
    def test_all_policies_are_followed(self, name):
        followed = follow(AUTO[name])
        moved = 0
        for seed in range(40):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            output, view = transform_with_view(followed, map_of_the_image())
            assert view.canvas_size == (HEIGHT, WIDTH)
            assert 0 <= view.visible_area <= 1 + 1e-9
            moved += view.visible_area < 1 - 1e-6
            assert isinstance(output, Image.Image | torch.Tensor)
        assert moved > 0

    @pytest.mark.parametrize("operation", ["Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"])
    @pytest.mark.parametrize("as_tensor", [False, True])
    def test_geometric_operations_are_followed_exactly(self, operation, as_tensor):
        class Only(v2.RandAugment):
            __module__ = "torchvision.transforms.v2"
            _AUGMENTATION_SPACE = {operation: v2.RandAugment._AUGMENTATION_SPACE[operation]}  # noqa: RUF012

        only = Only(2, 20)
        for seed in range(6):
            check(*applied(tensor(only) if as_tensor else only, seed))

    @pytest.mark.parametrize("operation", ["Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel"])
    def test_timms_geometric_operations_are_followed_after_photometric_ones(self, operation):
        augment = create_transform(
            96, is_training=True, auto_augment="rand-m9-n4", interpolation="bilinear"
        ).transforms[2]
        named = {op.name: op for op in augment.ops}
        augment.ops = [named[operation]]
        for op in augment.ops:
            op.prob = 1.0
        for seed in range(6):
            check(*applied(augment, seed), tolerance=4 * STEP)  # four warps in a row, each rounding colours down


class TestRefusals:
    @pytest.mark.parametrize(
        "transform",
        [
            v2.AugMix(),
            v2.ElasticTransform(),
            v2.FiveCrop(10),
            v2.TenCrop(10),
            v2.Lambda(lambda x: x),
            v2.RandomIoUCrop(),
        ],
        ids=lambda t: type(t).__name__,
    )
    def test_refusals_are_immediate_and_name_the_way_out(self, transform):
        with pytest.raises(UntrackableTransformError, match=f"{type(transform).__name__}.*untrackable='whole'"):
            follow(v2.Compose([v2.Resize(10), transform]))

    def test_an_image_created_from_scratch_is_refused_when_applied(self):
        followed = follow(v1.Compose([lambda image: Image.fromarray(np.asarray(image)[:, ::-1].copy())]))
        with pytest.raises(UntrackableTransformError, match=r"lambda.*returned a Image"):
            transform_with_view(followed, map_of_the_image())

    def test_an_undeclared_function_of_a_tensor_is_refused(self):
        followed = follow(v1.Compose([v1.ToTensor(), lambda image: image.flip(-1)]))
        with pytest.raises(UntrackableTransformError, match=r"lambda.*returned a Tensor"):
            transform_with_view(followed, map_of_the_image())

    def test_a_function_with_tracks_views_is_accepted(self):
        def brighter(image):
            return image * 2

        brighter.tracks_views = True
        output, view = transform_with_view(follow(v1.Compose([v1.ToTensor(), brighter])), map_of_the_image())
        assert view.visible_area == 1.0
        assert output.max() == pytest.approx(2.0)

    def test_an_output_of_unexpected_size_is_refused(self):
        def smaller(image):
            return image[:, ::2]

        smaller.tracks_views = True
        with pytest.raises(UntrackableTransformError, match="150 x 400"):
            transform_with_view(follow(v1.Compose([v1.ToTensor(), smaller])), map_of_the_image())

    def test_timms_separate_transforms_raise_a_clear_error(self):
        with pytest.raises(TypeError, match="separate=True"):
            follow(create_transform(96, is_training=True, separate=True))


def test_v1_and_v2_return_the_same_pixels_for_the_same_seed():
    a = v1.Compose(
        [v1.RandomResizedCrop(64), v1.RandomHorizontalFlip(), v1.RandomRotation(10), v1.RandomCrop(50, padding=3)]
    )
    b = v2.Compose(
        [v2.RandomResizedCrop(64), v2.RandomHorizontalFlip(), v2.RandomRotation(10), v2.RandomCrop(50, padding=3)]
    )
    for seed in range(10):
        torch.manual_seed(seed)
        plain = a(map_of_the_image())
        of_v1, view_v1 = transform_with_view(follow(a), map_of_the_image()) if torch.manual_seed(seed) else None
        of_v2, view_v2 = transform_with_view(follow(b), map_of_the_image()) if torch.manual_seed(seed) else None
        assert np.array_equal(np.asarray(plain), np.asarray(of_v1))
        assert np.array_equal(np.asarray(of_v1), np.asarray(of_v2))
        assert view_v1 == view_v2


def test_padding_does_not_uncover_cropped_parts():
    _, view = transform_with_view(follow(v2.Compose([v2.CenterCrop(100), v2.Pad(50)])), map_of_the_image())
    assert view.visible_area == pytest.approx(100 * 100 / (HEIGHT * WIDTH))
    assert view.area == pytest.approx(200 * 200 / (HEIGHT * WIDTH))
