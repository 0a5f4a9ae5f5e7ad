"""`autoencoder=`, `sampler=`, `population.…`, `downstream=`: what is learnt of a zoo, drawn and compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from zoo.config import sections

NOISE_KINDS = ("additive", "multiplicative")
TARGETS = ("view", "clean")


@dataclass
class AugmentationConfig:
    """How the views of a model are drawn that an autoencoder is trained on. The defaults are the published ones."""

    # Put the hidden neurons into a random order, which leaves the model's function as it is.
    permute: bool = True
    # Probability that a block of the weight vector is set to 0.
    erase: float = field(default=0.5, metadata={"min": 0.0, "max": 1.0})
    # Its length as a fraction of the vector is uniform between these two.
    erase_low: float = field(default=0.02, metadata={"min": 0.0, "max": 1.0})
    erase_high: float = field(default=0.33, metadata={"min": 0.0, "max": 1.0})
    # Standard deviation of Gaussian noise. additive: in units of the weights. multiplicative: relative to each weight.
    noise: float = field(default=0.0, metadata={"min": 0.0})
    noise_kind: str = field(default="additive", metadata={"choices": NOISE_KINDS})
    # What is to be reconstructed. view: the input itself, its zeros and noise too, as published. clean: the permuted
    # model without noise and erasing.
    target: str = field(default="view", metadata={"choices": TARGETS})


@dataclass
class LossConfig:
    """`autoencoder.loss.…`: what the autoencoder is trained for; the terms are added up with these weights."""

    normalise: bool  # layer-wise loss normalisation (2022, eq. 5): each layer's error over its own variance
    contrast: float = field(metadata={"min": 0.0, "below": 1.0})  # γ: (1 - γ) * reconstruction + γ * NT-Xent
    temperature: float = field(metadata={"above": 0.0})  # of NT-Xent
    behaviour: float = field(metadata={"min": 0.0})  # times KL(original's outputs || reconstruction's); uses images
    behaviour_images: int = field(metadata={"min": 1})  # unlabelled training images, fresh every step
    between: float = field(metadata={"min": 0.0})  # times the same for mixtures of two embeddings, see `Mixture`
    behaviour_from: float = field(
        metadata={"min": 0.0, "max": 1.0}
    )  # share of the training before the term sets in ...
    behaviour_full: float = field(metadata={"min": 0.0, "max": 1.0})  # ... and until it has grown to its full weight


@dataclass
class OptimizerConfig:
    """`autoencoder.optimizer.…`: how it is trained. An epoch is one pass over the states of the zoo's train split."""

    name: str = field(metadata={"choices": ("adam", "adamw")})
    lr: float = field(metadata={"above": 0.0})
    weight_decay: float = field(metadata={"min": 0.0})
    schedule: str = field(metadata={"choices": ("constant", "cosine", "plateau")})  # plateau: × 0.3 after 10 bad epochs
    batch_size: int = field(metadata={"min": 2})
    epochs: int = field(metadata={"min": 1})
    validate_every: int = field(metadata={"min": 1})  # epochs
    clip: float | None = field(metadata={"above": 0.0})  # largest norm of the gradient; null: not clipped
    bf16: bool  # matrix products in bfloat16 (GPU)
    compile: bool  # torch.compile


@dataclass
class AutoencoderConfig:
    """`autoencoder=`: the model of the weights of a zoo."""

    name: str  # the folder under <paths.root>/hyperreps/<zoo>
    seed: int = field(metadata={"min": 0})  # of initial weights, batches and all that is random in its training
    states: list[int]  # epochs of the zoo whose states it learns
    weight_threshold: float | None = field(metadata={"above": 0.0})  # states with a weight beyond it are not learnt
    align: str = field(metadata={"choices": ("none", "weights", "activations")})  # bring neurons into one order first
    centre: bool  # the network sees weights minus their mean over the training states
    d_model: int = field(metadata={"min": 1})
    blocks: int = field(metadata={"min": 0})  # transformer blocks in the encoder, and as many in the decoder
    heads: int = field(metadata={"min": 1})
    feedforward: int = field(metadata={"min": 1})
    latent: int = field(metadata={"min": 1})
    dropout: float = field(metadata={"min": 0.0, "below": 1.0})
    projection_layers: int = field(metadata={"min": 0})  # hidden layers of the projection head (contrastive loss only)
    projection_width: int = field(metadata={"min": 1})
    projection_outputs: int = field(metadata={"min": 1})
    augmentation: AugmentationConfig
    loss: LossConfig
    optimizer: OptimizerConfig

    @property
    def uses_images(self) -> bool:
        """Whether what is learnt depends on images (unlabelled ones), and not on weights alone."""
        return self.loss.behaviour > 0 or self.align == "activations"


@dataclass
class SamplerConfig:
    """`sampler=`: how new networks are drawn. A preset has the options of its sampler and no others."""

    name: str  # one of SAMPLERS, or the dotted path of a class of yours
    label: str  # how folders and tables call it
    top: float | None = field(metadata={"above": 0.0, "max": 1.0})  # only this share of the anchors; null: all
    top_by: str = field(metadata={"choices": ("validation", "test")})  # test, as released, looks at the test images
    best_of: int = field(metadata={"min": 1})  # networks drawn for one kept: the best on validation images
    variety: float = field(metadata={"min": 0.0})  # what disagreement counts in that choice, beside accuracy

    # Options: see the class of the sampler that has them.
    bandwidth: float | None = field(default=None, metadata={"above": 0.0})  # in standard deviations of the anchors
    bandwidth_absolute: bool | None = None  # take bandwidth as it is
    density_quantile: float | None = field(default=None, metadata={"above": 0.0, "below": 1.0})
    cube: str | None = field(default=None, metadata={"choices": ("per_axis", "global")})
    rotate: bool | None = None  # draw along the anchors' principal axes
    shrinkage: float | None = field(default=None, metadata={"min": 0.0, "max": 1.0})  # of the covariance
    spread: float | None = field(default=None, metadata={"above": 0.0})  # times the anchors' standard deviations
    members: int | None = field(default=None, metadata={"min": 2})  # of a soup; null: all anchors
    components: int | None = field(default=None, metadata={"min": 1})
    steps: int | None = field(default=None, metadata={"min": 1})  # of training
    fit_seed: int | None = field(default=None, metadata={"min": 0})  # of what is random in fitting
    condition: dict[str, Any] | None = None  # property -> value of the draws; null: as the anchors have it
    options: dict[str, Any] | None = None  # the options of a class of yours, by name


# Name -> module in hyperrep.downstream, and the options that it has.
COMPARISONS = {
    "init": ("initialisation", {"epochs"}),
    "transfer": ("transfer", {"epochs", "target", "target_words"}),
    "ensemble": ("ensemble", {"sizes", "repeats", "combine"}),
    "reconstruction": ("reconstruction", {"epochs"}),
    "unseen_zoo": ("unseen_zoo", {"target", "target_words", "sizes", "repeats", "combine"}),
    "unseen_arch": ("unseen_arch", {"target", "target_words", "archs", "epochs"}),
    "robustness": ("robustness", {"levels"}),
    "smoothness": ("smoothness", {"points", "pairs", "from_epoch"}),
    "weight_distribution": ("weight_distribution", {"bins"}),
}


@dataclass
class DownstreamConfig:
    """`downstream=`: which comparison, and of what. A preset has the options of its comparison and no others."""

    name: str = field(metadata={"choices": tuple(COMPARISONS)})
    methods: dict[
        str, list[str] | None
    ]  # label -> words that, added to the command line, make its population; null: none
    reported: list[int]  # epochs that tables show, beside the last of the fine-tuning; others are measured too

    # Options: see the comparison that has them.
    epochs: int | None = field(default=None, metadata={"min": 0})  # of fine-tuning
    target: str | None = None  # zoo= of the images that are transferred to
    target_words: list[str] | None = None  # words of its own on the target's command line, e.g. "zoo.models=200"
    archs: list[str] | None = None  # arch= of others
    sizes: list[int] | None = field(default=None, metadata={"min": 1})  # of ensembles
    repeats: int | None = field(default=None, metadata={"min": 1})  # ensembles of a size
    combine: str | None = field(default=None, metadata={"choices": ("logits", "probabilities", "vote")})
    levels: list[float] | None = field(default=None, metadata={"min": 0.0})  # of noise, in standard deviations
    points: int | None = field(default=None, metadata={"min": 2})  # on a path
    pairs: int | None = field(default=None, metadata={"min": 1})  # of models
    from_epoch: int | None = field(default=None, metadata={"min": 0})  # where a path along the training begins
    bins: int | None = field(default=None, metadata={"min": 2})

    @property
    def populations(self) -> dict[str, list[str]]:
        """The words of each method that has a population."""
        return {method: words for method, words in self.methods.items() if words is not None}

    @property
    def shown(self) -> list[int]:
        """The epochs that tables show."""
        return sorted({*self.reported, *([] if self.epochs is None else [self.epochs])})


@dataclass(kw_only=True)
class Config(sections.Config):
    """A zoo, and what is learnt of it, drawn and compared."""

    autoencoder: AutoencoderConfig
    sampler: SamplerConfig
    downstream: DownstreamConfig
