"""Transforms of the user's: marked parts, containers, classes, and what is changed after the dataset was made."""

import functools
import random
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import functional as F1
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from benchmarks.geometry_parts import Branches, SomeOf, Sometimes
from mlimagenet_data.errors import UntrackableTransformError
from mlimagenet_data.labelling.policy import LabelPolicy
from mlimagenet_data.labelling.sample import SampleBuilder
from mlimagenet_data.views.follow import follow, transform_with_view
from mlimagenet_data.views.view import View
from tests.views.test_follow import NEAREST, STEP, check, map_of_the_image


def seeded(number):
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number)


def states():
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()


def agree(transform, seeds=6, tolerance=4 * STEP):
    """Compare with the native pixels, the random states afterwards, and the view of each pixel."""
    for number in range(seeds):
        seeded(number)
        native, after = transform(map_of_the_image()), states()
        seeded(number)
        output, view = transform_with_view(follow(transform), map_of_the_image())
        assert states() == after
        pixels = [np.asarray(i) if isinstance(i, Image.Image) else i.permute(1, 2, 0).numpy() for i in (native, output)]
        np.testing.assert_array_equal(*pixels)
        check(pixels[1].astype(np.float64), view, tolerance)


def marked(function):
    def transform(image):
        return function(image)

    transform.tracks_views = True
    return transform


class TestMarkedParts:
    FUNCTIONS = {  # noqa: RUF012
        "resized_crop": lambda i: F.resized_crop(i, 30, 40, 100, 120, [90, 80], interpolation=NEAREST),
        "pad": lambda i: F.pad(i, [9, 3, 5, 7]),
        "rotate": lambda i: F.rotate(i, 30, expand=True),
        "flip, crop": lambda i: F.crop(F.horizontal_flip(i), 5, 6, 100, 110),
        "perspective": lambda i: F.perspective(i, [[0, 0], [9, 0], [9, 9], [0, 9]], [[1, 1], [9, 0], [8, 9], [0, 7]]),
        "resize, colours": lambda i: F.adjust_brightness(F.resize(i, [100, 90], interpolation=NEAREST), 1.0),
        "erase": lambda i: F.erase(
            F.to_image(i) if isinstance(i, Image.Image) else i, 9, 9, 50, 60, torch.zeros(3, 1, 1)
        ),
    }

    @pytest.mark.parametrize(
        ("name", "as_tensor"),
        [*((name, False) for name in FUNCTIONS if name != "erase"), *((name, True) for name in FUNCTIONS)],
    )
    def test_v2s_functions_are_followed(self, name, as_tensor):
        function = self.FUNCTIONS[name]
        lambda_ = v2.Lambda(function)
        lambda_.tracks_views = True
        for transform in (marked(function), lambda_):
            agree(v2.Compose([v2.PILToTensor(), transform]) if as_tensor else transform, seeds=1)

    def test_a_marked_subclass_of_v2_is_followed(self):
        class Shifted(v2.Transform):
            tracks_views = True

            def make_params(self, flat_inputs):
                return {"top": int(torch.randint(0, 50, ()))}

            def transform(self, inpt, params):
                return self._call_kernel(F.crop, inpt, params["top"], 9, 100, 120)

        agree(Shifted())
        agree(v2.Compose([v2.PILToTensor(), Shifted()]))

    def test_colours_may_change_by_any_means(self):
        def doubled(image):
            return image * 2

        output, view = transform_with_view(follow(v1.Compose([v1.ToTensor(), marked(doubled)])), map_of_the_image())
        assert view == View.of(300, 400)
        assert output.max() == pytest.approx(2.0)

    def test_the_views_steps_count_even_if_the_result_is_a_plain_tensor(self):
        transform = v2.Compose([v2.PILToTensor(), marked(lambda i: F.crop(i, 10, 20, 90, 80) * 1)])
        agree(transform, seeds=1)

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (lambda i: None, "transform: it returned a NoneType, not an image"),
            (lambda i: (i, i), "transform: it returned a tuple, not an image"),
            (lambda i: i[:, ::2], "transform: the output is 150 x 400 pixels"),
            (lambda i: (F.crop(i, 0, 0, 99, 99), F.crop(i, 9, 9, 99, 99))[0] + 0, "several images of its input"),
        ],
    )
    def test_what_comes_back_is_checked(self, function, message):
        transform = v2.Compose([v2.PILToTensor(), marked(function)])
        with pytest.raises(UntrackableTransformError, match=message):
            transform_with_view(follow(transform), map_of_the_image())


class TestTensorFunctions:
    def test_a_function_of_v2s_functions_needs_no_mark(self):
        agree(v2.Compose([v2.PILToTensor(), lambda i: F.horizontal_flip(F.crop(i, 5, 6, 100, 110))]), seeds=1)

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (lambda i: i.flip(-1), "<lambda>: it returned a Tensor"),
            (F1.hflip, "hflip: it returned a Tensor"),
            (lambda i: i * (torch.arange(400) > 99), "<lambda>: it returned a Tensor"),
            (lambda i: (i[:, 9:99, 9:99].zero_(), i)[1], "<lambda>: it changes the image in place"),
            (lambda i: (i.mul_(0), i)[1], "<lambda>: it changes the image in place"),
            (lambda i: (i.numpy().fill(0), i)[1], "<lambda>: it changes the image in place"),
            (lambda i: i.numpy(), "<lambda>: it returned a ndarray"),
        ],
    )
    def test_other_changes_are_refused(self, function, message):
        with pytest.raises(UntrackableTransformError, match=message):
            transform_with_view(follow(v2.Compose([v2.PILToTensor(), function])), map_of_the_image())

    def test_copies_keep_the_view(self):
        agree(v2.Compose([v2.PILToTensor(), lambda i: F.crop(i.clone(), 5, 6, 100, 110).clone()]), seeds=1)


CROPS = (v2.RandomResizedCrop(90, interpolation=NEAREST), v2.RandomHorizontalFlip())


class Logged(v2.Compose):
    """Has a constructor of its own, and the library's `forward`."""

    def __init__(self, size, name):
        super().__init__([v2.RandomCrop(size), v2.RandomVerticalFlip()])
        self.name = name


class TestContainers:
    CONTAINERS = {  # noqa: RUF012
        "subclass with a constructor": lambda: Logged(99, "x"),
        "some of, n=3": lambda: SomeOf([*CROPS, v2.RandomRotation(20), v2.RandomVerticalFlip()], n=3),
        "own forward": lambda: Sometimes(0.6, *CROPS, lambda i: i.crop((5, 5, 70, 80)), v1.RandomVerticalFlip()),
        "own class": lambda: Branches(v1.RandomCrop(80), v2.Compose(CROPS)),
        "own class in one": lambda: v1.Compose([Branches(v1.RandomApply([Sometimes(0.9, *CROPS)]), v2.CenterCrop(70))]),
        "v1 choice": lambda: v1.RandomChoice([v1.RandomCrop(80), v2.CenterCrop(90), v1.Pad(4)]),
        "v1 order": lambda: v1.RandomOrder([v1.RandomCrop(80, pad_if_needed=True), v1.RandomRotation(20)]),
        "v1 apply, module list": lambda: v1.RandomApply(torch.nn.ModuleList([v1.RandomCrop(80)])),
        "sequential": lambda: torch.nn.Sequential(v1.RandomCrop(80), v1.RandomHorizontalFlip()),
        "partial": lambda: v1.Compose([functools.partial(F.crop, top=3, left=4, height=90, width=80)]),
        "colours in a class": lambda: Branches(v1.ColorJitter(0.01), v2.RandomCrop(70)),
    }

    @pytest.mark.parametrize("name", CONTAINERS)
    def test_the_users_own_code_runs(self, name):
        agree(self.CONTAINERS[name](), tolerance=8 * STEP)

    def test_an_object_keeps_what_it_changes_of_itself(self):
        transform = Branches(v2.CenterCrop(50), v2.CenterCrop(60))
        followed = follow(transform)
        for _ in range(3):
            transform_with_view(followed, map_of_the_image())
        assert transform.calls == 3
        assert isinstance(transform.first, v2.CenterCrop)

    def test_parts_called_with_something_else_are_refused_by_name(self):
        class Twice:
            def __init__(self):
                self.crop = v2.RandomCrop(50)

            def __call__(self, image):
                return self.crop(Image.fromarray(np.asarray(image)))

        with pytest.raises(UntrackableTransformError, match="RandomCrop: it was called with Image"):
            transform_with_view(follow(Twice()), map_of_the_image())


class TestLaterChanges:
    def test_each_change_counts_at_the_next_call(self):
        transform = v2.Compose([v2.RandomCrop(100), v2.RandomApply([v2.CenterCrop(50)], p=0.0)])
        followed = follow(transform)

        def size():
            output, view = transform_with_view(followed, map_of_the_image())
            assert view.canvas_size == (output.height, output.width)
            return view.canvas_size

        assert size() == (100, 100)
        transform.transforms[1].p = 1.0
        assert size() == (50, 50)
        transform.transforms[1].transforms[0].size = (40, 30)
        assert size() == (40, 30)
        transform.transforms.append(v2.Pad(1))
        assert size() == (42, 32)
        transform.transforms.insert(0, v1.Resize((90, 95)))
        transform.transforms[1] = v1.CenterCrop(80)
        transform.transforms[2].p = 0.0
        assert size() == (82, 82)
        transform.transforms[0].size = (70, 60)
        transform.transforms[1].size = (60, 50)
        assert size() == (62, 52)
        transform.transforms.append(v2.ElasticTransform())
        with pytest.raises(UntrackableTransformError, match="ElasticTransform"):
            size()


def flips_an_array(image):
    """Cannot be followed for wide images."""
    image = image.crop((5, 5, 95, 95))
    image.thumbnail((50, 50))
    return Image.fromarray(np.asarray(image)[:, ::-1].copy()) if random.random() < 0.5 else image


def test_a_sample_that_cannot_be_followed_leaves_the_others_alone():
    builder = SampleBuilder(v2.Compose([v2.RandomCrop(200), flips_an_array]), LabelPolicy(), "view", "whole")
    record = SimpleNamespace(size=None, image_id="a")
    whole = followed = 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in range(30):
            seeded(number)
            native, after = builder.transform(map_of_the_image()), states()
            seeded(number)
            output, view = builder.apply_transform(record, map_of_the_image())
            np.testing.assert_array_equal(np.asarray(output), np.asarray(native))
            assert states() == after
            whole += view == View.of(300, 400)
            followed += view.canvas_size == (50, 50)
    assert whole + followed == 30
    assert min(whole, followed) > 5
    (warning,) = caught
    assert "a view gets the whole image's labels" in str(warning.message)
