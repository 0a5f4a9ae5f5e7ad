"""Every preset of `autoencoder=` and `sampler=` composes, and makes what it says."""

import pytest
from hydra import compose, initialize_config_dir

import run
from hyperrep.models.autoencoder import Autoencoder
from hyperrep.samplers import SAMPLERS, sampler_problems
from tests.populations import architecture
from zoo.config.reading import read_config

AUTOENCODERS = sorted(path.stem for path in (run.CONFIG_DIR / "autoencoder").glob("*.yaml"))
PRESETS = sorted(path.stem for path in (run.CONFIG_DIR / "sampler").glob("*.yaml"))


def configure(*overrides: str):
    with initialize_config_dir(str(run.CONFIG_DIR), version_base="1.3"):
        return read_config(compose("config", list(overrides)), run.Config)


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_autoencoders(name):
    config = configure(f"autoencoder={name}").autoencoder
    assert config.name == name
    assert Autoencoder(config, architecture("cnn_s")).tokens.n_tokens == 48


def test_the_published_autoencoder_has_the_recorded_settings():
    """METHODS F.3, the column of the MNIST Seed zoo."""
    config = configure("autoencoder=published").autoencoder
    sizes = (config.d_model, config.blocks, config.heads, config.feedforward, config.latent, config.dropout)
    assert sizes == (800, 2, 4, 900, 700, 0.1)
    assert (config.projection_layers, config.projection_width, config.projection_outputs) == (4, 400, 50)
    assert (config.loss.contrast, config.loss.temperature, config.augmentation.erase) == (0.1, 0.1, 0.5)
    training = config.optimizer
    assert (training.lr, training.weight_decay, training.batch_size, training.epochs) == (1e-4, 1e-9, 500, 500)
    assert config.loss.behaviour == 0


@pytest.mark.parametrize("name", PRESETS)
def test_samplers(name):
    config = configure(f"sampler={name}")
    assert config.sampler.label == name
    assert config.sampler.top == (0.3 if name.endswith("30") else None)
    assert config.sampler.top_by == "validation"
    assert sampler_problems(config.sampler) == []
    assert config.population.name == f"digits_seed_small_{name}_0"


def test_every_sampler_has_a_preset():
    assert {configure(f"sampler={name}").sampler.name for name in PRESETS} == set(SAMPLERS)
