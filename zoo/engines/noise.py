"""The parts of the fused engine that variances need, as plain numba functions; see `zoo.networks.variational` for the formulas."""

from __future__ import annotations

import math

import numpy as np

from zoo.engines.numerics import FOUR, HALF, ONE, TWO, ZERO, exp, f32, log, multiply_add, sigmoid, strict
from zoo.networks.variational import DROPPED, K1, K2, K3, TINY

SMALL, DROPPED_FROM = f32(TINY), f32(DROPPED)
SLOPE, SHIFT, STEEP = f32(K1), f32(K2), f32(K3)
TURN = f32(2 * math.pi)
STEP = f32(2.0**-23)


@strict
def normals(words, n, numbers):
    """numbers[:n] become those of `zoo.engines.philox.normals` for these words (rounding apart); n is even."""
    for i in range(n // 2):
        u = (f32(words[2 * i] >> np.uint32(9)) + HALF) * STEP
        v = f32(words[2 * i + 1] >> np.uint32(9)) * STEP
        radius = f32(math.sqrt(-TWO * log(u)))
        quarter = np.int32(v * FOUR + HALF)
        angle = (v - f32(quarter) * f32(0.25)) * TURN  # at most an eighth of a turn either way
        z = angle * angle
        s = f32(-1.9515295891e-4)
        s = multiply_add(s, z, f32(8.3321608736e-3))
        s = multiply_add(s, z, f32(-1.6666654611e-1))
        s = multiply_add(s * z, angle, angle)
        c = f32(2.443315711809948e-5)
        c = multiply_add(c, z, f32(-1.388731625493765e-3))
        c = multiply_add(c, z, f32(4.166664568298827e-2))
        c = multiply_add(c * z, z, multiply_add(-HALF, z, ONE))
        odd, half = (quarter & np.int32(1)) != 0, (quarter & np.int32(2)) != 0
        cosine, sine = (-s if odd else c), (c if odd else s)
        numbers[2 * i] = radius * (-cosine if half else cosine)
        numbers[2 * i + 1] = radius * (-sine if half else sine)


@strict
def effective(P, E, LIMITS, n):
    """What a noisy forward pass reads: E[:n] the weights P[:n], and E[n:] their variances, from log σ² in P[n:].

    LIMITS [n] is what log α is clamped to either way, and 0 where there is no variance.
    """
    for i in range(n):
        weight, limit = P[i], LIMITS[i]
        alpha = multiply_add(-TWO, log(abs(weight) + SMALL), P[n + i])
        E[i] = weight
        E[n + i] = exp(min(max(alpha, -limit), limit)) * weight * weight if limit > ZERO else ZERO


@strict
def masked(P, E, LIMITS, n):
    """What evaluation reads: E[:n] the weights P[:n] that are kept, else 0."""
    for i in range(n):
        alpha = multiply_add(-TWO, log(abs(P[i]) + SMALL), P[n + i])
        E[i] = ZERO if (alpha >= DROPPED_FROM and LIMITS[i] > ZERO) else P[i]


@strict
def chain(P, E, G, LIMITS, n, share):
    """From gradients of variances, G[n:], those of log σ² (in their place) and of weights (added to G[:n]).

    `share` is the weight of the divergence, whose gradients are added. Where log α is not clamped the variance is σ², of
    which the weight knows nothing.
    """
    for i in range(n):
        weight, limit, gradient = P[i], LIMITS[i], G[n + i]
        alpha = multiply_add(-TWO, log(abs(weight) + SMALL), P[n + i])
        inside = alpha >= -limit and alpha <= limit
        bounded = min(max(alpha, -limit), limit)
        _, rise = sigmoid(multiply_add(STEEP, bounded, SHIFT))
        slope = share * (-SLOPE * STEEP * rise - HALF / (ONE + exp(bounded)))
        size = abs(weight) + SMALL
        direction = ONE if weight > ZERO else (-ONE if weight < ZERO else ZERO)
        of_weight = -TWO * slope * direction / size if inside else TWO * gradient * exp(bounded) * weight
        G[n + i] = multiply_add(gradient, E[n + i], slope) if inside else ZERO
        G[i] += of_weight if limit > ZERO else ZERO


@strict
def square(A, source, squares, X, n):
    """A[squares:] = X[source:]²; n values."""
    for k in range(n):
        A[squares + k] = X[source + k] * X[source + k]


@strict
def sample(A, mean, spread, noise, size, lanes, channels, numbers, first):
    """Noise on a map [size][size][lanes]: A[mean:] becomes the outputs, A[spread:] their derivatives by the variances.

    The number of channel c at place p is numbers[first + c * size² + p], the order in which PyTorch flattens; A[noise:] is
    where they are brought into the order of the map.
    """
    places = size * size
    for c in range(channels):
        for p in range(places):
            A[noise + p * lanes + c] = numbers[first + c * places + p]
    for k in range(places * lanes):
        deviation = f32(math.sqrt(A[spread + k] + SMALL))
        A[mean + k] = multiply_add(deviation, A[noise + k], A[mean + k])
        A[spread + k] = HALF * A[noise + k] / deviation


@strict
def keep(A, mean, spread, n, z, by_spread):
    """A stage without pool: its outputs and their derivatives are those of the map."""
    for k in range(n):
        A[z + k] = A[mean + k]
        A[by_spread + k] = A[spread + k]


@strict
def pool(A, mean, spread, size, lanes, z, by_spread, I, i, input_size, input_lanes):  # noqa: E741
    """The largest of each 2x2 of a map, the first of equals, with its derivative by the variance and where it came from."""
    side = size // 2
    for y in range(side):
        for x in range(side):
            out = (y * side + x) * lanes
            corner = (2 * y * size + 2 * x) * lanes
            place = np.int32((2 * y * input_size + 2 * x) * input_lanes)
            for c in range(lanes):
                best, by, where = A[mean + corner + c], A[spread + corner + c], place
                k = corner + lanes + c
                larger = A[mean + k] > best
                best, by = (A[mean + k] if larger else best), (A[spread + k] if larger else by)
                where = place + np.int32(input_lanes) if larger else where
                k = corner + size * lanes + c
                larger = A[mean + k] > best
                best, by = (A[mean + k] if larger else best), (A[spread + k] if larger else by)
                where = place + np.int32(input_size * input_lanes) if larger else where
                k = corner + (size + 1) * lanes + c
                larger = A[mean + k] > best
                best, by = (A[mean + k] if larger else best), (A[spread + k] if larger else by)
                where = place + np.int32((input_size + 1) * input_lanes) if larger else where
                A[z + out + c] = best
                A[by_spread + out + c] = by
                I[i + out + c] = where


@strict
def times(A, first, second, to, n):
    """A[to:] = A[first:] * A[second:]; n values."""
    for k in range(n):
        A[to + k] = A[first + k] * A[second + k]


@strict
def join(A, g, by_square, z, d, n):
    """Gradients A[g:] of a stage's outputs A[z:] by way of means and, A[by_square:], of variances, times A[d:]."""
    for k in range(n):
        A[g + k] = multiply_add(TWO * A[z + k], A[by_square + k], A[g + k]) * A[d + k]
