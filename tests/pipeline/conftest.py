import pytest
import torch

from build.demo import lay_out_demo
from build.models.embedded import EmbeddedBackbone
from build.run import main


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """The demo, built once: its dataset folder."""
    out = tmp_path_factory.mktemp("demo") / "mlimagenet"
    assert main(["--demo", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """The demo's photographs as an image folder: eight class folders in `train`."""
    return lay_out_demo(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="session")
def backbone():
    """The embedded network at its default image size."""
    return EmbeddedBackbone(384, torch.device("cpu"))
