"""The hyper-representation autoencoder: a transformer over the neurons of a network, with a bottleneck.

Hyper-Representations as Generative Models (Schürholt et al., 2022), section 3; Self-Supervised Representation Learning
on Neural Network Weights (Schürholt et al., 2021). A token is a neuron: its incoming weights and its bias. Each layer has
its own linear embedder to `d_model`; a learned compression token gathers the network, and its output becomes, through a
linear map and tanh, the embedding z in (-1, 1)^latent. The decoder goes the same way back.

Differences from the published code, on purpose: PyTorch's LayerNorm (biased variance) instead of a home-made one, and
scaled-dot-product attention over the tokens of one network (never over the networks of a batch).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyperrep.checks import autoencoder_problems
from hyperrep.config import AutoencoderConfig
from hyperrep.tokens import Tokens
from zoo.base.errors import UserError
from zoo.networks.architecture import Architecture


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
