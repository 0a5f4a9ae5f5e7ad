"""downstream=unseen_zoo: an autoencoder reads and writes the weights of a zoo that it has not learnt.

Hyper-Representations as Generative Models (Schürholt et al., 2022), Table 3: models of one zoo, through the autoencoder of
another, on the images that they were trained on; single and in ensembles, without fine-tuning.
"""

from __future__ import annotations

import pandas as pd

from hyperrep.config import Config
from hyperrep.downstream.decoded import ensure_representation
from hyperrep.downstream.ensemble import ensembles
from hyperrep.downstream.stages import ensure_zoo, given, of_target, tidy
from hyperrep.states import permutations_like
from hyperrep.symmetry import Permutations
from zoo.base.errors import UserError
from zoo.config.combinations import architecture
from zoo.engines.evaluation import Networks
from zoo.training.opening import zoo_images


def compare(config: Config) -> pd.DataFrame:
    """Accuracy on the target's images: x is 1 for single models, or the size of an ensemble.

    The models are those of the target's train split at the last epoch learnt, brought into the order of neurons of the
    zoo that was learnt. "originals" are the models as they are.

    Args:
        config: of the zoo that is learnt; `downstream.target` is the `zoo=` of the other, `downstream.sizes`,
            `downstream.repeats` and `downstream.combine` as for downstream=ensemble; each method's words make an
            autoencoder.

    Raises:
        UserError: if the other zoo is of another architecture.
    """
    other, last = of_target(config), max(config.autoencoder.states)
    theirs, ours = architecture(other), architecture(config)
    if theirs.to_dict() != ours.to_dict():
        raise UserError(
            f"downstream.target: got {config.downstream.target}, whose architecture (arch={theirs.name}, images "
            f"{'×'.join(map(str, theirs.image))}) is another than that of {config.zoo.name} (arch={ours.name}, "
            f"{'×'.join(map(str, ours.image))}): its weights cannot be embedded"
        )
    target = ensure_zoo(other)
    images = zoo_images(other, target)
    data = target.dataset("train", [last], ("activation",))
    parts: list[pd.DataFrame] = []
    for method, words in config.downstream.populations.items():
        known = ensure_representation(config, words)
        weights, mode = data.weights, known.config.autoencoder.align
        if mode != "none":
            reference = known.states["train"].at(last)
            of_models = permutations_like(reference, weights, data.table, known.arch, mode, known.images)
            permutations = Permutations(known.arch)
            weights = permutations.apply(weights, permutations.split(of_models))
        networks = {"originals": weights} if not parts else {}
        networks[method] = known.decode(known.encode(weights))
        for name, values in networks.items():
            with Networks(known.arch, values, data.table, images, config.engine) as evaluated:
                single = evaluated.scores(images.test).accuracy
                logits = evaluated.outputs(images.test)
            place = {"epoch": last, "model": range(len(single)), "x": 1.0}
            parts.append(tidy(name, images.name, "test_acc", value=single, **place))
            sizes = [size for size in given(config.downstream.sizes) if size > 1]
            parts += ensembles(name, logits, sizes, images, last, config)
    return pd.concat(parts, ignore_index=True)
