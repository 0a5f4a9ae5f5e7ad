"""Parts of the autoencoder's training by themselves."""

import numpy as np
import pytest
import torch

from hyperrep.training import Plateau


@pytest.mark.parametrize(
    ("losses", "cut"),
    [
        (1 + 0.5 ** np.arange(80), True),  # falls, and stays
        (1 - 5e-5 * np.arange(80), False),  # each a little better: by less than counts, but together by enough
        (np.random.default_rng(0).random(80), True),
        (
            np.where(np.arange(80) % 11 == 0, 1 - np.arange(80) / 100, 2.0),
            False,
        ),  # better every eleventh epoch: in time
        (np.where(np.arange(80) % 12 == 0, 1 - np.arange(80) / 100, 2.0), True),  # ... every twelfth: too late
    ],
)
def test_plateau_is_that_of_torch(losses, cut):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3)
    ours, rates = Plateau(), []
    for loss in losses:
        theirs.step(loss)
        ours.step(float(loss))
        rates.append((optimizer.param_groups[0]["lr"], ours.factor))
    assert [ours for _, ours in rates] == pytest.approx([theirs for theirs, _ in rates])
    assert (rates[-1][1] < 1) == cut
