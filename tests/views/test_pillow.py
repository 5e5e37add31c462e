"""Pillow's methods and functions on images that carry their views: followed exactly, or refused by name."""

import copy
import pickle
import random

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageOps
from torchvision.transforms import functional as F1
from torchvision.transforms.v2 import functional as F

from mlimagenet_data.errors import UntrackableTransformError
from mlimagenet_data.views.follow import follow, transform_with_view
from mlimagenet_data.views.track_pillow import PHOTOMETRIC, READING, TrackedImage
from mlimagenet_data.views.view import View
from tests.views.test_follow import STEP, check, map_of_the_image

NEAR = Image.Resampling.NEAREST


def in_place(change):
    """Return a function that changes its image and returns it."""

    def function(image):
        change(image)
        return image

    return function


def letterboxed(image):
    canvas = Image.new("RGB", (max(image.size),) * 2)
    canvas.paste(image, ((canvas.width - image.width) // 2, (canvas.height - image.height) // 2))
    return canvas


def rotated_on_black(image):
    turned = image.convert("RGBA").rotate(30)
    return Image.composite(turned, Image.new("RGBA", turned.size, (0, 0, 0, 255)), turned).convert("RGB")


def erased_in_a_copy(image):
    image.copy().paste((0, 0, 0), (0, 0, 99, 99))
    return image


FOLLOWED = {
    "thumbnail": in_place(lambda i: i.thumbnail((125, 125), NEAR)),
    "reduce": lambda i: i.reduce(3),
    "reduce, box": lambda i: i.reduce((3, 2), (5, 6, 100, 101)),
    "paste a colour": in_place(lambda i: i.paste((0, 0, 0), (0, 0, 125, 200))),
    "paste in a copy": erased_in_a_copy,
    "put alpha": lambda i: in_place(lambda image: image.putalpha(9))(i).convert("RGB"),
    "rotate": lambda i: i.rotate(33, expand=True, center=(20, 20), translate=(5, 6)),
    "quarter turn": lambda i: i.rotate(90, expand=True),
    "letterbox": letterboxed,
    "rotate on a colour": rotated_on_black,
    "expand": lambda i: ImageOps.expand(i, (5, 6, 7, 8)),
    "ImageOps.pad": lambda i: ImageOps.pad(i, (300, 300), NEAR),
    "ImageOps.fit": lambda i: ImageOps.fit(i, (200, 200), NEAR),
    "ImageOps.contain": lambda i: ImageOps.contain(i, (200, 200), NEAR),
    "ImageOps.crop": lambda i: ImageOps.crop(i, 20),
    "ImageOps.mirror": ImageOps.mirror,
    "ImageOps.scale": lambda i: ImageOps.scale(i, 0.5, NEAR),
    "ImageOps.exif_transpose": ImageOps.exif_transpose,
    "ImageOps.autocontrast": ImageOps.autocontrast,
    "brightness, crop": lambda i: ImageEnhance.Brightness(i).enhance(0.99).crop((10, 10, 100, 100)),
    "contrast, mirror": lambda i: ImageOps.mirror(ImageEnhance.Contrast(i).enhance(1.0)),
    "sharpness": lambda i: ImageEnhance.Sharpness(i).enhance(1.0).crop((50, 50, 99, 99)),
    "merged bands": lambda i: Image.merge("RGB", i.split()).crop((5, 5, 90, 90)),
    "filter": lambda i: i.filter(ImageFilter.SMOOTH).crop((50, 50, 90, 90)),
    "point": lambda i: i.point(lambda value: value),
    "functional.pad": lambda i: F1.pad(i, [10, 20, 30, 40]),
    "v2.functional.pad": lambda i: F.pad(i, [10, 20, 30, 40]),
    "v2.functional.resized_crop": lambda i: F.resized_crop(i, 10, 20, 90, 80, [96, 96], F.InterpolationMode.NEAREST),
    "functional.resized_crop": lambda i: F1.resized_crop(i, 10, 20, 90, 80, [96, 96], F1.InterpolationMode.NEAREST),
    "deep copy": lambda i: copy.deepcopy(i).transpose(Image.Transpose.ROTATE_90),
    "transform object": lambda i: i.transform((99, 98), AffineTransform()),
}


class AffineTransform:
    def getdata(self):
        return Image.Transform.AFFINE, (0.9, 0.1, 3, -0.1, 0.9, 40)


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_function_is_followed_and_returns_its_own_pixels(name):
    native = FOLLOWED[name](map_of_the_image())
    output, view = transform_with_view(follow(FOLLOWED[name]), map_of_the_image())
    assert type(output) is Image.Image
    np.testing.assert_array_equal(np.asarray(output), np.asarray(native))
    check(np.asarray(output).astype(np.float64), view)


class Swirl(ImageFilter.Filter):
    name = "swirl"

    def filter(self, image):
        return image


REFUSED = {
    "Draw": (in_place(lambda i: ImageDraw.Draw(i).rectangle((0, 0, 50, 50))), "ImageDraw.Draw"),
    "load": (in_place(lambda i: i.load().__setitem__((3, 3), 0)), r"load\(\)\[x, y\]"),
    "putpixel": (in_place(lambda i: i.putpixel((3, 3), (0, 0, 0))), "putpixel"),
    "putdata": (in_place(lambda i: i.putdata([(0, 0, 0)] * 9)), "putdata"),
    "frombytes": (in_place(lambda i: i.frombytes(bytes(400 * 300 * 3))), "frombytes"),
    "paste a part": (in_place(lambda i: i.paste(i.crop((0, 0, 50, 50)), (99, 99))), "Image.paste"),
    "paste by a mask": (in_place(lambda i: i.paste((0, 0, 0), None, Image.new("1", i.size))), "Image.paste"),
    "unbound paste": (in_place(lambda i: Image.Image.paste(i, (0, 0, 0), (0, 0, 99, 99))), "paste"),
    "unbound crop": (lambda i: Image.Image.crop(i, (0, 0, 99, 99)), "crop"),
    "paste on an image": (lambda i: in_place(lambda c: c.paste(i, (9, 9)))(map_of_the_image()), "paste"),
    "alpha_composite": (in_place(lambda i: i.convert("RGBA").alpha_composite(i.convert("RGBA"))), "alpha_composite"),
    "offset": (lambda i: ImageChops.offset(i, 50, 50), "ImageChops.offset"),
    "lighter": (lambda i: ImageChops.lighter(i, i.rotate(90)), "ImageChops.lighter"),
    "blend": (lambda i: Image.blend(i, i.rotate(20), 0.5), "Image.blend"),
    "blend with another": (lambda i: Image.blend(i, map_of_the_image(), 0.5), "Image.blend"),
    "merge of shifted bands": (lambda i: Image.merge("RGB", (*i.split()[:2], ImageOps.mirror(i).split()[2])), "merge"),
    "effect_spread": (lambda i: i.effect_spread(9), "effect_spread"),
    "memory": (in_place(lambda i: setattr(i, "im", i.rotate(9).im)), "Image.im"),
    "mesh": (lambda i: i.transform(i.size, Image.Transform.QUAD, (0, 0, 0, 9, 9, 9, 9, 0)), "Image.transform"),
    "own filter": (lambda i: i.filter(Swirl), "Swirl"),
    "array": (lambda i: Image.fromarray(np.asarray(i)[:, ::-1].copy()), "returned a Image"),
    "nothing": (lambda i: None, "returned a NoneType"),
    "two images": (lambda i: (i, i), "returned a tuple"),
    "mirrored border": (lambda i: F1.pad(i, [9, 9, 9, 9], padding_mode="reflect"), "returned a Image"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused_by_name(name):
    function, message = REFUSED[name]
    with pytest.raises(
        UntrackableTransformError, match=rf"^(<lambda>|function): .*{message}.*tracks_views.*untrackable"
    ):
        transform_with_view(follow(function), map_of_the_image())


def test_each_of_pillows_methods_is_known_or_refused():
    """A new method of Pillow reaches for the image's memory, and is refused until it is classified."""
    moving = {"crop", "filter", "paste", "putalpha", "putpalette", "apply_transparency", "reduce", "resize", "split", "thumbnail",
              "transform", "transpose", "getdata", "load", "close", "draft"}  # fmt: skip
    known = moving | {*PHOTOMETRIC, *READING}
    assert {name for name in known if name in vars(Image.Image)} <= set(vars(TrackedImage))
    through_others = {"rotate"}  # calls methods that are followed
    values = {"width", "height", "size", "mode", "readonly", "format", "format_description", "info", "palette"}
    refused = {"alpha_composite", "effect_spread", "frombytes", "getim", "im", "putdata", "putpixel", "seek"}
    public = {name for name in dir(Image.Image) if not name.startswith("_")}
    assert public - known - through_others - values - refused <= {"get_child_images"}
    image = TrackedImage.of(map_of_the_image(), View.of(300, 400))
    arguments = {"alpha_composite": (image.convert("RGBA"),), "effect_spread": (3,), "frombytes": (b"",),
                 "putdata": ([0],), "putpixel": ((0, 0), 0)}  # fmt: skip
    for name in refused - {"im", "seek"}:
        with pytest.raises(UntrackableTransformError):
            getattr(image, name)(*arguments.get(name, ()))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1", "CMYK", "I", "F", "YCbCr", "I;16"])
def test_every_mode_is_followed(mode):
    image = map_of_the_image().convert("L" if mode == "I;16" else mode)
    image = image.convert("I;16") if mode == "I;16" else image
    steps = [
        lambda i: i.crop((3, 4, 200, 190)),
        lambda i: i.resize((150, 140)),
        ImageOps.mirror,
        lambda i: i.rotate(20),
    ]
    native = image.copy()
    for step in steps:
        native = step(native)
    output, view = transform_with_view(follow(lambda i: steps[3](steps[2](steps[1](steps[0](i))))), image.copy())
    assert output.mode == native.mode
    assert output.tobytes() == native.tobytes()
    assert view.canvas_size == (140, 150)


def test_reading_is_free_and_pickles_are_plain():
    seen = []

    def look(image):
        seen.append(image.getpixel((3, 3)))
        seen.append(image.load()[3, 3])
        seen.append(tuple(np.asarray(image)[3, 3]))
        seen.append(image.histogram() == map_of_the_image().histogram())
        seen.append(type(pickle.loads(pickle.dumps(image))))
        return image.crop((0, 0, 9, 9))

    _, view = transform_with_view(follow(look), map_of_the_image())
    expected = map_of_the_image().getpixel((3, 3))
    assert seen == [expected, expected, expected, True, Image.Image]
    assert view.visible_area == pytest.approx(81 / 120_000)


class AutoAugmentPort:
    """An own version of AutoAugment's operations, as published ports write them."""

    def __call__(self, image):
        operation = random.choice([self.shear, self.colour, self.rotate, self.brighten])
        return operation(image)

    def shear(self, image):
        return image.transform(image.size, Image.Transform.AFFINE, (1, 0.2, 0, 0, 1, 0))

    def colour(self, image):
        return ImageEnhance.Color(image).enhance(1.0)

    def rotate(self, image):
        return rotated_on_black(image)

    def brighten(self, image):
        return ImageEnhance.Brightness(image).enhance(0.99)


def test_a_port_of_auto_augment_is_followed():
    from torchvision.transforms import v2

    transform = v2.Compose([AutoAugmentPort(), AutoAugmentPort(), AutoAugmentPort()])
    for seed in range(12):
        random.seed(seed)
        output, view = transform_with_view(follow(transform), map_of_the_image())
        check(np.asarray(output).astype(np.float64), view, tolerance=12 * STEP)  # each factor rounds colours down
