"""The hyper-representation autoencoder: a transformer over the neurons of a network, with a bottleneck.

Hyper-Representations as Generative Models (Schürholt et al., 2022), section 3; Self-Supervised Representation Learning
on Neural Network Weights (Schürholt et al., 2021). A token is a neuron: its incoming weights and its bias. Each layer has
its own linear embedder to `d_model`; a learned compression token gathers the network, and its output becomes, through a
linear map and tanh, the embedding z in (-1, 1)^latent. The decoder goes the same way back.

Differences from the published code, on purpose: PyTorch's LayerNorm (biased variance) instead of a home-made one, and
scaled-dot-product attention over the tokens of one network (never over the networks of a batch).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyperrep.augmentation import AugmentationConfig
from hyperrep.tokens import Tokens
from zoo.architecture import Architecture
from zoo.errors import UserError


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


def autoencoder_problems(config: AutoencoderConfig, tokens: Tokens) -> list[str]:
    """What the values of a config forbid together; a sentence each."""
    problems = []
    if config.d_model < tokens.longest:
        problems.append(
            f"autoencoder.d_model: got {config.d_model}, but the longest token has {tokens.longest} values, which a "
            f"narrower model cannot pass on; give at least {tokens.longest}"
        )
    if config.d_model % config.heads:
        problems.append(
            f"autoencoder.heads: got {config.heads}, which does not divide autoencoder.d_model={config.d_model}"
        )
    if config.loss.between > 0 and config.loss.behaviour == 0:
        problems.append(
            f"autoencoder.loss.between: got {config.loss.between}, but it is a part of the behavioural term, and "
            "autoencoder.loss.behaviour is 0"
        )
    if config.loss.behaviour_full < config.loss.behaviour_from:
        problems.append(
            f"autoencoder.loss.behaviour_full: got {config.loss.behaviour_full}, but it cannot be before "
            f"autoencoder.loss.behaviour_from={config.loss.behaviour_from}"
        )
    return problems


class Block(nn.Module):
    """A pre-norm transformer block: x + drop(attention(norm x)), then x + drop(feed-forward(norm x))."""

    def __init__(self, d_model: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.qkv, self.out = nn.Linear(d_model, 3 * d_model), nn.Linear(d_model, d_model)
        self.feedforward = nn.Sequential(
            nn.Linear(d_model, feedforward), nn.ReLU(), nn.Dropout(dropout), nn.Linear(feedforward, d_model)
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, tokens, d_model] to the same."""
        batch, tokens, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        x = x + self.drop(self.out(attended.transpose(1, 2).reshape(batch, tokens, width)))
        return x + self.drop(self.feedforward(self.norm2(x)))


class Autoencoder(nn.Module):
    """Weight vectors [batch, P] to embeddings [batch, latent] in (-1, 1), and back.

    Args:
        config: sizes.
        arch: of the networks, a list of layers.
        centre: float32 [P], subtracted from what is encoded and added to what is decoded; None: nothing.

    Raises:
        UserError: if the architecture has no tokens, or the sizes do not fit (see `autoencoder_problems`).
    """

    centre: Tensor

    def __init__(self, config: AutoencoderConfig, arch: Architecture, centre: Tensor | None = None) -> None:
        super().__init__()
        self.tokens = Tokens(arch)
        if problems := autoencoder_problems(config, self.tokens):
            raise UserError("\n".join(problems))
        d, n, lengths = config.d_model, self.tokens.n_tokens, [layer.length for layer in self.tokens.layers]
        self.register_buffer("centre", torch.zeros(arch.n_parameters) if centre is None else centre.clone())
        self.embed = nn.ModuleList([nn.Linear(length, d) for length in lengths])
        self.compression = nn.Parameter(torch.randn(1, 1, d))
        self.encoder_positions = nn.Parameter(torch.randn(n + 1, d))
        self.encoder = nn.Sequential(*(self._block(config) for _ in range(config.blocks)))
        self.squeeze = nn.Linear(d, config.latent)
        self.spread = nn.Linear(config.latent, n * d)
        self.decoder_positions = nn.Parameter(torch.randn(n, d))
        self.decoder = nn.Sequential(*(self._block(config) for _ in range(config.blocks)))
        self.disembed = nn.ModuleList([nn.Linear(d, length) for length in lengths])
        self.projection = _projection_head(config) if config.loss.contrast > 0 else None

    @staticmethod
    def _block(config: AutoencoderConfig) -> Block:
        return Block(config.d_model, config.heads, config.feedforward, config.dropout)

    def _apply(self, fn: Any, recurse: bool = True) -> Autoencoder:
        """Where the network is moved to, its tokens' index maps go too."""
        super()._apply(fn, recurse)
        self.tokens = self.tokens.to(self.centre.device)
        return self

    def encode(self, weights: Tensor) -> Tensor:
        """Weights [batch, P] to embeddings [batch, latent]."""
        parts = self.tokens.split(weights - self.centre)
        x = torch.cat([embed(part) for embed, part in zip(self.embed, parts, strict=True)], dim=1)
        x = torch.cat([self.compression.expand(len(x), -1, -1), x], dim=1) + self.encoder_positions
        return torch.tanh(self.squeeze(self.encoder(x)[:, 0]))

    def decode(self, embeddings: Tensor) -> Tensor:
        """Embeddings [batch, latent] to weights [batch, P]."""
        x = self.spread(embeddings).view(len(embeddings), self.tokens.n_tokens, -1) + self.decoder_positions
        parts = self.decoder(x).split([layer.count for layer in self.tokens.layers], dim=1)
        joined = self.tokens.join([disembed(part) for disembed, part in zip(self.disembed, parts, strict=True)])
        return joined + self.centre

    def forward(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Weights [batch, P] to (embeddings [batch, latent], reconstructions [batch, P])."""
        embeddings = self.encode(weights)
        return embeddings, self.decode(embeddings)


def _projection_head(config: AutoencoderConfig) -> nn.Module:
    """From the embedding to where NT-Xent compares: [linear, batch norm, ReLU] …, linear, batch norm."""
    layers: list[nn.Module] = []
    width = config.latent
    for _ in range(config.projection_layers):
        layers += [nn.Linear(width, config.projection_width), nn.BatchNorm1d(config.projection_width), nn.ReLU()]
        width = config.projection_width
    layers += [nn.Linear(width, config.projection_outputs), nn.BatchNorm1d(config.projection_outputs)]
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.constant_(layer.bias, 0.01)
    return nn.Sequential(*layers)
