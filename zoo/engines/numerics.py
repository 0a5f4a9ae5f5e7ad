"""The parts of the fused engine that are the same for every architecture, as plain numba functions.

`A` is a thread's arena of activations: for each layer its outputs z (overwritten by the activation), their derivatives d
and their gradients g, at offsets that `zoo.engines.kernels` plans. Functions are exact to a few units in the last place,
also where they or their derivatives are next to nothing: Adam makes whole steps of gradients however small.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from zoo.engines.simd import OPERATIONS

multiply_add = OPERATIONS["multiply_add"]

# Arithmetic as it is written: nothing is reordered or fused by the compiler, and no division is approximated. So the bits
# are the same on every processor, with vectors of any width, whichever process compiled the code. Where a multiply-add is
# to be rounded once, multiply_add says so; a sum is one chain, or as many as the code names.
strict = njit(nogil=True, error_model="numpy")

f32 = np.float32
ZERO, HALF, ONE, TWO, FOUR = f32(0), f32(0.5), f32(1), f32(2), f32(4)
RSQRT_2PI = f32(0.3989422804014327)
LOG2_E, LN2 = f32(1.4426950408889634), f32(0.6931471805599453)
LN2_HIGH, LN2_LOW = f32(0.693359375), f32(-2.12194440e-4)  # their sum is ln 2, and multiples of the first are exact
# Added to a number between -2^22 and 2^22 it leaves the nearest whole number, in its last bits, too.
ROUND = f32(1.5 * 2**23)
BETA1, BETA2, EPS = f32(0.9), f32(0.999), f32(1e-8)
# 1 - 0.9 rounded once, as PyTorch does it: f32(1) - f32(0.9) is another number, and drifts away.
REST1, REST2 = f32(1 - 0.9), f32(1 - 0.999)

TANH, RELU, SIGMOID, GELU, IDENTITY = range(5)
ACTIVATION_CODES = {"tanh": TANH, "relu": RELU, "sigmoid": SIGMOID, "gelu": GELU}

LOW32 = np.uint64(0xFFFFFFFF)
SHIFT32 = np.uint64(32)
MULTIPLIER0, MULTIPLIER1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
KEY_STEP0, KEY_STEP1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@strict
def power(k, r):
    """e^(n ln 2 + r) as scale and p: it is scale * (1 + p), scale is 2^n, or 0 for n = -127.

    Args:
        k: the whole number n from -127 to 127, with ROUND added.
        r: at most 0.35 either way.
    """
    p = f32(1.9875691500e-4)
    p = multiply_add(p, r, f32(1.3981999507e-3))
    p = multiply_add(p, r, f32(8.3334519073e-3))
    p = multiply_add(p, r, f32(4.1665795894e-2))
    p = multiply_add(p, r, f32(1.6666665459e-1))
    p = multiply_add(p, r, f32(5.0000001201e-1))
    p = multiply_add(p * r, r, r)
    scale = np.int32((f32(k).view(np.int32) << np.int32(23)) + np.int32(0x3F800000)).view(np.float32)
    return scale, p


@strict
def exp(x):
    """The exponential of a number up to 88; 0 where it is below 1e-38."""
    x = min(max(x, f32(-88)), f32(88))
    k = multiply_add(x, LOG2_E, ROUND)
    n = k - ROUND
    scale, p = power(k, multiply_add(n, -LN2_LOW, multiply_add(n, -LN2_HIGH, x)))
    return multiply_add(scale, p, scale)


@strict
def log(x):
    """The natural logarithm of a normal number > 0, by Cephes' polynomial."""
    bits = f32(x).view(np.int32)
    exponent = ((bits >> np.int32(23)) & np.int32(255)) - np.int32(126)
    m = np.int32((bits & np.int32(0x007FFFFF)) | np.int32(0x3F000000)).view(np.float32)  # in [0.5, 1)
    low = m < f32(0.707106781186547524)
    e = f32(exponent - np.int32(1)) if low else f32(exponent)
    x = m + m - ONE if low else m - ONE
    z = x * x
    p = f32(7.0376836292e-2)
    p = multiply_add(p, x, f32(-1.1514610310e-1))
    p = multiply_add(p, x, f32(1.1676998740e-1))
    p = multiply_add(p, x, f32(-1.2420140846e-1))
    p = multiply_add(p, x, f32(1.4249322787e-1))
    p = multiply_add(p, x, f32(-1.6668057665e-1))
    p = multiply_add(p, x, f32(2.0000714765e-1))
    p = multiply_add(p, x, f32(-2.4999993993e-1))
    p = multiply_add(p, x, f32(3.3333331174e-1))
    y = multiply_add(p * x, z, multiply_add(e, LN2_LOW, -HALF * z))
    return multiply_add(e, LN2_HIGH, x + y)


@strict
def normal_tail(u, density):
    """P(X > u) of a standard normal X, 0 <= u <= 14, given exp(-u^2/2): that times a rational of degree 4 over 5.

    All coefficients are positive, so nothing cancels and the relative error is that of `density`. One minus an error
    function is off by a unit in the last place of 1 there: where the exact gradient is 1e-12, it gave 1e-7.
    """
    p = f32(4.07764273e-3)
    p = multiply_add(p, u, f32(4.03727676e-2))
    p = multiply_add(p, u, f32(1.82462454e-1))
    p = multiply_add(p, u, f32(4.37251734e-1))
    p = multiply_add(p, u, HALF)
    q = f32(1.02210058e-2)
    q = multiply_add(q, u, f32(1.01206331e-1))
    q = multiply_add(q, u, f32(4.67430749e-1))
    q = multiply_add(q, u, f32(1.19929329))
    q = multiply_add(q, u, f32(1.67238842))
    q = multiply_add(q, u, ONE)
    return density * p / q


@strict
def tanh(x):
    """tanh and its derivative, by e^(-2|x|): the derivative is exact where tanh itself is 1."""
    u = min(abs(x), f32(44))
    k = multiply_add(u, -TWO * LOG2_E, ROUND)
    scale, p = power(k, multiply_add(k - ROUND, -LN2, -TWO * u))
    e = multiply_add(scale, p, scale)
    q = ONE / (ONE + e)
    return math.copysign(multiply_add(-scale, p, ONE - scale) * q, x), FOUR * e * (q * q)


@strict
def sigmoid(x):
    """The logistic function and its derivative, by e^-|x|: both are exact where the function is 0 or 1."""
    u = min(abs(x), f32(88))
    k = multiply_add(u, -LOG2_E, ROUND)
    scale, p = power(k, multiply_add(k - ROUND, -LN2, -u))
    e = multiply_add(scale, p, scale)
    q = ONE / (ONE + e)
    return (q if x > ZERO else e * q), e * q * q


@strict
def gelu(x):
    """x P(X < x) of a standard normal X, and its derivative."""
    density = exp(-HALF * x * x)
    tail = normal_tail(min(abs(x), f32(14)), density)
    below = tail if x < ZERO else ONE - tail
    return x * below, multiply_add(x, RSQRT_2PI * density, below)


@strict
def activate(A, z, d, n, code):
    """n values at A[z:]: apply the activation; its derivative goes to A[d:]."""
    if code == TANH:
        for i in range(n):
            A[z + i], A[d + i] = tanh(A[z + i])
    elif code == RELU:
        for i in range(n):
            x = A[z + i]
            A[z + i] = x if x > ZERO else ZERO
            A[d + i] = ONE if x > ZERO else ZERO
    elif code == SIGMOID:
        for i in range(n):
            A[z + i], A[d + i] = sigmoid(A[z + i])
    elif code == GELU:
        for i in range(n):
            A[z + i], A[d + i] = gelu(A[z + i])
    else:
        for i in range(n):
            A[d + i] = ONE


@strict
def drop(A, z, d, places, channels, lanes, words, first, threshold, scale):
    """Dropout of a map [places][channels], stored with `lanes` values a place.

    The word of channel c at place i is words[first + c * places + i]: the order in which PyTorch flattens.
    """
    for i in range(places):
        for c in range(channels):
            keep = scale if words[first + c * places + i] >= threshold else ZERO
            A[z + i * lanes + c] *= keep
            A[d + i * lanes + c] *= keep


@strict
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


@strict
def put_back(A, g, n, to, places, i):
    """n gradients A[g:] of values that `take` took, added to those of where it took them from, A[to:]."""
    for k in range(n):
        A[to + places[i + k]] += A[g + k]


@strict
def add(A, z, other, n):
    """A[z : z + n] += A[other : other + n]."""
    for k in range(n):
        A[z + k] += A[other + k]


@strict
def mix(P, w, b, A, x, places, inputs, input_lanes, outputs, lanes, z):
    """A 1x1 convolution of A[x:] [places][input_lanes], weights P[w:] [outputs][inputs], biases P[b:], added to A[z:]."""
    for p in range(places):
        for o in range(outputs):
            total = P[b + o]
            for c in range(inputs):
                total = multiply_add(P[w + o * inputs + c], A[x + p * input_lanes + c], total)
            A[z + p * lanes + o] += total


@strict
def mix_back(P, w, b, A, x, g_x, places, inputs, input_lanes, outputs, lanes, g, G):
    """Back through `mix`: gradients A[g:] of its outputs give those of its weights, added to G, and of its inputs, A[g_x:]."""
    for k in range(places * input_lanes):
        A[g_x + k] = ZERO
    for p in range(places):
        for o in range(outputs):
            gradient = A[g + p * lanes + o]
            G[b + o] += gradient
            for c in range(inputs):
                i, j = w + o * inputs + c, p * input_lanes + c
                G[i] = multiply_add(gradient, A[x + j], G[i])
                A[g_x + j] = multiply_add(gradient, P[i], A[g_x + j])


@strict
def philox(words, n, seed, purpose, epoch, step):
    """words[:n] become the numbers of `zoo.engines.philox.random_words`; the length of `words` is a multiple of 4, at least n."""
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


@strict
def cross_entropy(A, z, g, classes, label, scale):
    """Loss of the logits A[z : z + classes]; its gradient times `scale` goes to A[g:].

    The label's gradient is minus the sum of the others: its probability minus 1 would be off by a unit in the last place
    of 1, where the network is sure.
    """
    top = A[z]
    for i in range(1, classes):
        top = max(top, A[z + i])
    for i in range(classes):
        A[g + i] = exp(A[z + i] - top)
    others = ZERO
    for i in range(classes):
        others += A[g + i] if i != label else ZERO
    total = others + A[g + label]
    share = scale / total
    for i in range(classes):
        A[g + i] *= share
    A[g + label] = -others * share
    return log(total) + top - A[z + label]


@strict
def largest(A, z, classes):
    """The class of the largest logit, the first of equals."""
    best = 0
    for i in range(1, classes):
        if A[z + i] > A[z + best]:
            best = i
    return best


@strict
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


@strict
def sgd(P, M, G, MOVED, lr, decay, momentum):
    """One step of SGD with momentum and L2 decay; G becomes 0."""
    for i in range(P.shape[0]):
        g = multiply_add(decay, P[i], G[i]) if MOVED[i] > ZERO else ZERO
        m = multiply_add(momentum, M[i], g)
        M[i] = m
        P[i] = multiply_add(-lr, m, P[i])
        G[i] = ZERO


@strict
def fetch(pixels, image, levels, X):
    """One image [place][channel] of uint8, normalised, into X.

    `levels` [256][channels] is what each pixel value becomes in each channel.
    """
    channels = levels.shape[1]
    if channels == 1:
        for i in range(pixels.shape[1]):
            X[i] = levels[pixels[image, i], 0]
    else:
        for i in range(0, pixels.shape[1], channels):
            for c in range(channels):
                X[i + c] = levels[pixels[image, i + c], c]


@strict
def side_by_side(X, x, X1, x1, Y, n):
    """Y[2i], Y[2i + 1] = X[x + i], X1[x1 + i]."""
    for i in range(n):
        Y[2 * i] = X[x + i]
        Y[2 * i + 1] = X1[x1 + i]
