"""The parts of the fused engine that are the same for every architecture, as plain numba functions.

`A` is a thread's arena of activations: for each layer its outputs z (overwritten by the activation), their derivatives d
and their gradients g, at offsets that `zoo.engines.kernels` plans. Polynomials are float32 minimax fits; each function
is within a few units in the last place of the exact one, as the tests check.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from zoo.engines.simd import OPERATIONS

multiply_add = OPERATIONS["multiply_add"]

# Functions that may reorder arithmetic. Not-a-number is therefore detected outside, on the weights after an epoch.
fast = njit(fastmath=True, nogil=True, error_model="numpy")
# Functions that may not. In the process that compiles a kernel, numba runs the copy of a function that was compiled on its
# own; in those that load the kernel, the caller's copy. Of a sum of two products the compiler chooses which one is rounded
# first, and had chosen otherwise in the two: so the optimisers say it (multiply_add).
exact = njit(nogil=True, error_model="numpy")

f32 = np.float32
ZERO, HALF, ONE = f32(0.0), f32(0.5), f32(1.0)
RSQRT_2PI = f32(0.3989422804014327)
BETA1, BETA2, EPS = f32(0.9), f32(0.999), f32(1e-8)
# 1 - 0.9 rounded once, as PyTorch does it: f32(1) - f32(0.9) is another number, and drifts away.
REST1, REST2 = f32(1 - 0.9), f32(1 - 0.999)

TANH, RELU, SIGMOID, GELU, IDENTITY = range(5)
ACTIVATION_CODES = {"tanh": TANH, "relu": RELU, "sigmoid": SIGMOID, "gelu": GELU}

LOW32 = np.uint64(0xFFFFFFFF)
SHIFT32 = np.uint64(32)
MULTIPLIER0, MULTIPLIER1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
KEY_STEP0, KEY_STEP1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@fast
def tanh(x):
    """tanh, rational of degree 13 over 6, clamped where it is 1."""
    x = min(max(x, f32(-7.90531110763549805)), f32(7.90531110763549805))
    s = x * x
    p = f32(-2.76076847742355e-16)
    p = p * s + f32(2.00018790482477e-13)
    p = p * s + f32(-8.60467152213735e-11)
    p = p * s + f32(5.12229709037114e-08)
    p = p * s + f32(1.48572235717979e-05)
    p = p * s + f32(6.37261928875436e-04)
    p = p * s + f32(4.89352455891786e-03)
    q = f32(1.19825839466702e-06)
    q = q * s + f32(1.18534705686654e-04)
    q = q * s + f32(2.26843463243900e-03)
    q = q * s + f32(4.89352518554385e-03)
    return x * p / q


@fast
def exp(x):
    """The exponential: 2^n times a polynomial of the rest."""
    x = min(max(x, f32(-87.0)), f32(88.0))
    n = f32(math.floor(x * f32(1.44269504088896341) + HALF))
    r = x - n * f32(0.693359375)
    r = r - n * f32(-2.12194440e-4)
    p = f32(1.9875691500e-4)
    p = p * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(5.0000001201e-1)
    p = p * r * r + r + ONE
    exponent = (np.int32(n) + np.int32(127)) << np.int32(23)
    return p * np.int32(exponent).view(np.float32)


@fast
def normal_tail(u, density):
    """P(X > u) of a standard normal X, 0 <= u <= 14, given exp(-u^2/2): that times a rational of degree 4 over 5.

    All coefficients are positive, so nothing cancels and the relative error is that of `density`. One minus an error
    function is off by a unit in the last place of 1 there: where the exact gradient is 1e-12, it gave 1e-7, which Adam
    takes for a whole step.
    """
    p = f32(4.07764273e-3)
    p = p * u + f32(4.03727676e-2)
    p = p * u + f32(1.82462454e-1)
    p = p * u + f32(4.37251734e-1)
    p = p * u + HALF
    q = f32(1.02210058e-2)
    q = q * u + f32(1.01206331e-1)
    q = q * u + f32(4.67430749e-1)
    q = q * u + f32(1.19929329)
    q = q * u + f32(1.67238842)
    q = q * u + ONE
    return density * p / q


@fast
def activate(A, z, d, n, code):
    """n values at A[z:]: apply the activation; its derivative goes to A[d:]."""
    if code == TANH:
        for i in range(n):
            a = tanh(A[z + i])
            A[z + i] = a
            A[d + i] = ONE - a * a
    elif code == RELU:
        for i in range(n):
            x = A[z + i]
            A[z + i] = x if x > ZERO else ZERO
            A[d + i] = ONE if x > ZERO else ZERO
    elif code == SIGMOID:
        for i in range(n):
            a = HALF * tanh(HALF * A[z + i]) + HALF
            A[z + i] = a
            A[d + i] = a * (ONE - a)
    elif code == GELU:
        for i in range(n):
            x = A[z + i]
            density = exp(-HALF * x * x)
            tail = normal_tail(min(abs(x), f32(14)), density)
            c = tail if x < ZERO else ONE - tail
            A[z + i] = x * c
            A[d + i] = c + x * (RSQRT_2PI * density)
    else:
        for i in range(n):
            A[d + i] = ONE


@fast
def drop(A, z, d, places, channels, lanes, words, first, threshold, scale):
    """Dropout of a map [places][channels], stored with `lanes` values a place.

    The word of channel c at place i is words[first + c * places + i]: the order in which PyTorch flattens.
    """
    for i in range(places):
        for c in range(channels):
            keep = scale if words[first + c * places + i] >= threshold else ZERO
            A[z + i * lanes + c] *= keep
            A[d + i * lanes + c] *= keep


@fast
def take(X, x0, size, lanes, side, window, step, start, A, taken, places, i):
    """The largest value of a window at each place of a map X[x0:] [size][size][lanes], the first of equals.

    It goes to A[taken:] [side][side][lanes], and where it was, counted from x0, to places[i:].
    """
    for y in range(side):
        for x in range(side):
            corner = ((start + y * step) * size + start + x * step) * lanes
            for c in range(lanes):
                A[taken + c] = X[x0 + corner + c]
                places[i + c] = corner + c
            for dy in range(window):
                for dx in range(window):
                    place = corner + (dy * size + dx) * lanes
                    for c in range(lanes):
                        value = X[x0 + place + c]
                        larger = value > A[taken + c]
                        A[taken + c] = value if larger else A[taken + c]
                        places[i + c] = place + c if larger else places[i + c]
            taken += lanes
            i += lanes


@fast
def put_back(A, g, n, to, places, i):
    """n gradients A[g:] of values that `take` took, added to those of where it took them from, A[to:]."""
    for k in range(n):
        A[to + places[i + k]] += A[g + k]


@fast
def add(A, z, other, n):
    """A[z : z + n] += A[other : other + n]."""
    for k in range(n):
        A[z + k] += A[other + k]


@fast
def mix(P, w, b, A, x, places, inputs, input_lanes, outputs, lanes, z):
    """A 1x1 convolution of A[x:] [places][input_lanes], weights P[w:] [outputs][inputs], biases P[b:], added to A[z:]."""
    for p in range(places):
        for o in range(outputs):
            total = P[b + o]
            for c in range(inputs):
                total += P[w + o * inputs + c] * A[x + p * input_lanes + c]
            A[z + p * lanes + o] += total


@fast
def mix_back(P, w, b, A, x, g_x, places, inputs, input_lanes, outputs, lanes, g, G):
    """Back through `mix`: gradients A[g:] of its outputs give those of its weights, added to G, and of its inputs, A[g_x:]."""
    for k in range(places * input_lanes):
        A[g_x + k] = ZERO
    for p in range(places):
        for o in range(outputs):
            gradient = A[g + p * lanes + o]
            G[b + o] += gradient
            for c in range(inputs):
                G[w + o * inputs + c] += gradient * A[x + p * input_lanes + c]
                A[g_x + p * input_lanes + c] += gradient * P[w + o * inputs + c]


@exact
def philox(words, n, seed, purpose, epoch, step):
    """words[:n] become the numbers of `zoo.philox.random_words`; the length of `words` is a multiple of 4, at least n."""
    for group in range((n + 3) // 4):
        c0, c1, c2, c3 = np.uint64(group), np.uint64(step), np.uint64(epoch), np.uint64(purpose)
        k0, k1 = np.uint64(seed) & LOW32, np.uint64(seed) >> SHIFT32
        for _ in range(10):
            p0, p1 = c0 * MULTIPLIER0, c2 * MULTIPLIER1
            c0, c1, c2, c3 = (p1 >> SHIFT32) ^ c1 ^ k0, p1 & LOW32, (p0 >> SHIFT32) ^ c3 ^ k1, p0 & LOW32
            k0, k1 = (k0 + KEY_STEP0) & LOW32, (k1 + KEY_STEP1) & LOW32
        words[4 * group] = np.uint32(c0)
        words[4 * group + 1] = np.uint32(c1)
        words[4 * group + 2] = np.uint32(c2)
        words[4 * group + 3] = np.uint32(c3)


@fast
def cross_entropy(A, z, g, classes, label, scale):
    """Loss of the logits A[z : z + classes]; its gradient times `scale` goes to A[g:]."""
    top = A[z]
    for i in range(1, classes):
        top = max(top, A[z + i])
    total = ZERO
    for i in range(classes):
        e = exp(A[z + i] - top)
        A[g + i] = e
        total += e
    for i in range(classes):
        A[g + i] *= scale / total
    A[g + label] -= scale
    return f32(math.log(total)) + top - A[z + label]


@exact
def largest(A, z, classes):
    """The class of the largest logit, the first of equals."""
    best = 0
    for i in range(1, classes):
        if A[z + i] > A[z + best]:
            best = i
    return best


@exact
def adam(P, M, V, G, MOVED, lr, decay, t):
    """One step of Adam with L2 decay (t counts from 1); G becomes 0. MOVED is 1 at what is trained, else 0.

    Padding is chosen away, not multiplied by 0: its gradient is made of whatever lay in the arena, and 0 times what a
    diverged model left there is not 0.
    """
    size = f32(lr / (1.0 - 0.9**t))
    root = f32(math.sqrt(1.0 - 0.999**t))
    for i in range(P.shape[0]):
        g = multiply_add(decay, P[i], G[i]) if MOVED[i] > ZERO else ZERO
        m = multiply_add(BETA1, M[i], REST1 * g)
        v = multiply_add(BETA2, V[i], REST2 * g * g)
        M[i] = m
        V[i] = v
        P[i] -= size * m / (f32(math.sqrt(v)) / root + EPS)
        G[i] = ZERO


@exact
def sgd(P, M, G, MOVED, lr, decay, momentum):
    """One step of SGD with momentum and L2 decay; G becomes 0."""
    for i in range(P.shape[0]):
        g = multiply_add(decay, P[i], G[i]) if MOVED[i] > ZERO else ZERO
        m = multiply_add(momentum, M[i], g)
        M[i] = m
        P[i] = multiply_add(-lr, m, P[i])
        G[i] = ZERO


@exact
def fetch(pixels, image, mean, std, X):
    """One image [place][channel] of uint8, normalised, into X.

    mean and std are given for every value of an image; the bits are those of `ImageData.normalise`.
    """
    for i in range(pixels.shape[1]):
        X[i] = (f32(pixels[image, i]) / f32(255) - mean[i]) / std[i]


@fast
def side_by_side(X, x, X1, x1, Y, n):
    """Y[2i], Y[2i + 1] = X[x + i], X1[x1 + i]."""
    for i in range(n):
        Y[2 * i] = X[x + i]
        Y[2 * i + 1] = X1[x1 + i]
