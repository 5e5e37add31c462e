import pytest
import torch

from build.images.demo import lay_out_demo
from build.networks.embedded import EmbeddedBackbone


@pytest.fixture(scope="session")
def photographs(once):
    """The demo's photographs as an image folder: eight class folders in `train`."""
    return once("demo-photographs", lay_out_demo)


@pytest.fixture(scope="session")
def backbone():
    """The embedded network at its default image size."""
    return EmbeddedBackbone(384, torch.device("cpu"))
