"""hyperzoo from Python: grow zoos, open them, learn from their weights, sample new networks, audit these.

    import hyperzoo as hz

    zoo = hz.train("zoo=digits_seed", "zoo.models=20", "zoo.epochs=2")
    zoo = hz.open("digits_seed")  # the same, later; or the path of any zoo
    weights = zoo.weights(split="train", epochs=[2])

Words are those of the command line (`python run.py --help`). `hz.configure` gives them as an object whose values can be
changed, and which all tasks take in place of words.
"""

from hyperzoo.packages import import_packages

import_packages()

from hyperzoo.tasks import audit, configure, open, run, sample, train, train_representation  # noqa: E402

__all__ = ["audit", "configure", "open", "run", "sample", "train", "train_representation"]
