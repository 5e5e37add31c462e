"""The networks of examples/train.py: outputs and initial weights."""

import networks
import pytest
import timm
import torch


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_class_maps_average_to_the_logits(name):
    torch.manual_seed(0)
    model = networks.make_model(name, 7, size=48, loss="spatial").eval()
    images = torch.randn(2, 3, 48, 48)
    with torch.inference_mode():
        logits, maps = model(images)
        torch.testing.assert_close(maps.mean(dim=(2, 3)), logits)
        assert maps.shape == (2, 7, *((2, 2) if name == "resnet10t" else (3, 3)))
        if name == "resnet10t":
            torch.testing.assert_close(logits, model.network(images), rtol=1e-4, atol=1e-5)


def test_class_maps_of_a_vit_come_from_its_patches():
    torch.manual_seed(0)
    plain = timm.create_model(
        "vit_tiny_patch16_224", num_classes=7, img_size=48, global_pool="avg", fc_norm=False
    ).eval()
    images = torch.randn(2, 3, 48, 48)
    with torch.inference_mode():
        logits, maps = networks.WithMaps(plain)(images)
        torch.testing.assert_close(logits, plain(images), rtol=1e-4, atol=1e-5)
        tokens = plain.forward_features(images)  # the class token, then the patches row by row
        torch.testing.assert_close(maps[:, :, 0, 2], plain.head(tokens[:, 3]), rtol=1e-4, atol=1e-5)


def test_points_leave_the_networks_logits_unchanged():
    model = networks.make_model("resnet10t", 7, size=32, loss="byproducts").eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        logits, points = model(images)
        torch.testing.assert_close(logits, model.network(images))
    assert points.shape == (2, 2)


def test_weights_load_except_layers_for_another_number_of_classes(tmp_path):
    old = networks.make_model("resnet10t", 5)
    torch.save({"model": old.state_dict(), "epoch": 3}, tmp_path / "old.pt")
    new = networks.make_model("resnet10t", 7, loss="byproducts")
    assert networks.load_weights(new, tmp_path / "old.pt") == ["fc.bias", "fc.weight", "point.bias", "point.weight"]
    torch.testing.assert_close(new.network.conv1[0].weight, old.conv1[0].weight)
    again = networks.make_model("resnet10t", 5)
    assert networks.load_weights(again, tmp_path / "old.pt") == []
    torch.testing.assert_close(again.fc.weight, old.fc.weight)
    with pytest.raises(ValueError, match=r"old\.pt: not the weights of this model"):
        networks.load_weights(networks.make_model("resnet18", 5), tmp_path / "old.pt")


def test_a_position_embedding_is_resized(tmp_path):
    torch.save(networks.make_model("vit_tiny_patch16_224", 5, size=32).state_dict(), tmp_path / "vit.pt")
    assert networks.load_weights(networks.make_model("vit_tiny_patch16_224", 5, size=48), tmp_path / "vit.pt") == []


def test_images_are_normalised_as_in_evaluation():
    assert networks.normalisation("test_vit") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert networks.normalisation("resnet50") == networks.normalisation("torchvision:resnet50")
    with pytest.raises(SystemExit, match="--model resnet7: not a timm model"):
        networks.normalisation("resnet7")


def test_torchvision_networks_are_made_by_name():
    assert networks.make_model("torchvision:squeezenet1_1", 7)(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
    with pytest.raises(SystemExit, match="needs a timm model, not torchvision:squeezenet1_1"):
        networks.make_model("torchvision:squeezenet1_1", 7, loss="spatial")
