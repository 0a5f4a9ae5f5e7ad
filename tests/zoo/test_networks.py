"""A matrix of weights as networks."""

import numpy as np
import pytest

from tests.populations import image_data, model_rows
from zoo.base.errors import UserError
from zoo.engines.choice import EngineConfig
from zoo.engines.evaluation import predictions
from zoo.networks.architecture import Architecture


def test_networks_with_batchnorm_are_not_run_without_their_running_statistics():
    arch = Architecture("normed", (1, 28, 28), 10, module="tests.populations.Normed")
    data, rows = image_data(), model_rows(activation=["relu"])
    weights = np.zeros((1, arch.n_parameters), np.float32)
    loop = EngineConfig("loop", 1, None)
    with pytest.raises(UserError, match=r"^arch=normed: .*9 running statistics"):
        predictions(arch, weights, rows, data.test, data, loop)
    assert predictions(arch, weights, rows, data.test, data, loop, buffers=np.ones((1, 9), np.float32)).shape == (1, 13)
