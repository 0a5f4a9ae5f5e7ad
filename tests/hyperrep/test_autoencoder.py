"""The autoencoder: shapes, ranges, what it must not mix, what it refuses."""

import dataclasses

import pytest
import torch

from hyperrep.config import AugmentationConfig, AutoencoderConfig, LossConfig, OptimizerConfig
from hyperrep.models.autoencoder import Autoencoder
from tests.populations import architecture
from zoo.base.errors import UserError


def small(**changes) -> AutoencoderConfig:
    config = AutoencoderConfig(
        name="test", seed=0, states=[1, 2], weight_threshold=15, align="none", centre=True, d_model=208, blocks=1, heads=4,
        feedforward=32, latent=16, dropout=0.0, projection_layers=1, projection_width=20, projection_outputs=10,
        augmentation=AugmentationConfig(permute=False, erase=0.0),
        loss=LossConfig(True, 0.1, 0.1, 0.0, 16, 0.0, 0.0, 0.0),
        optimizer=OptimizerConfig("adamw", 1e-3, 0.0, "cosine", 4, 2, 1, None, False, False),
    )  # fmt: skip
    return dataclasses.replace(config, **changes)


def test_embeddings_and_reconstructions():
    arch = architecture("cnn_s")
    autoencoder = Autoencoder(small(), arch, torch.randn(arch.n_parameters)).eval()
    weights = torch.randn(5, arch.n_parameters)
    embeddings, decoded = autoencoder(weights)
    assert embeddings.shape == (5, 16)
    assert decoded.shape == weights.shape
    assert embeddings.abs().max() < 1
    torch.testing.assert_close(autoencoder.decode(autoencoder.encode(weights)), decoded)


def test_the_whole_autoencoder_moves_to_a_device():
    arch = architecture("cnn_s")
    moved = Autoencoder(small(), arch).to("meta")  # a device that any machine has, and that mixes with no other
    assert moved(torch.zeros(2, arch.n_parameters, device="meta"))[1].device.type == "meta"
    assert moved.tokens.order.device.type == moved.tokens.inverse.device.type == "meta"


def test_a_network_does_not_see_the_others_of_its_batch():
    arch = architecture("cnn_s")
    autoencoder = Autoencoder(small(), arch).eval()
    weights = torch.randn(6, arch.n_parameters)
    together = autoencoder(weights)[1]
    for i in range(6):
        torch.testing.assert_close(autoencoder(weights[i : i + 1])[1][0], together[i], rtol=1e-4, atol=1e-5)


def test_every_token_reaches_the_embedding():
    arch = architecture("cnn_s")
    autoencoder = Autoencoder(small(), arch).eval()
    weights = torch.randn(1, arch.n_parameters, requires_grad=True)
    autoencoder.encode(weights).square().sum().backward()
    assert (weights.grad != 0).all()


def test_it_can_learn_two_networks_by_heart():
    torch.manual_seed(0)
    arch = architecture("cnn_s")
    weights = torch.randn(2, arch.n_parameters) * 0.1
    autoencoder = Autoencoder(small(), arch, weights.mean(0))
    optimizer = torch.optim.AdamW(autoencoder.parameters(), 3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        loss = (autoencoder(weights)[1] - weights).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 * (weights - weights.mean(0)).square().mean().item()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"d_model": 200}, "longest token has 201"),
        ({"heads": 3}, "does not divide"),
        ({"loss": LossConfig(True, 0.0, 0.1, 1.0, 16, 0.0, 0.5, 0.3)}, "cannot be before"),
    ],
)
def test_refuses_in_a_sentence(changes, words):
    with pytest.raises(UserError, match=words):
        Autoencoder(small(**changes), architecture("cnn_s"))


def test_refuses_a_module():
    with pytest.raises(UserError, match="resnet18"):
        Autoencoder(small(), architecture("resnet18"))
