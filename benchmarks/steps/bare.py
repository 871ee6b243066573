"""The same mathematics with TensorFlow operations and variables alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import tensorflow as tf

WIDTHS, DIMENSION = (2048, 512, 512, 512), 2048
MARGIN, ALPHA, NEGATIVES = 0.1, 2.0, 20
BETA = 0.5 / NEGATIVES
RATE, FUSION_RATE, MOMENTUM, DECAY, EPSILON, KEEP, DEVIATION = 0.02, 0.002, 0.9, 0.0005, 1e-5, 0.9, 0.01


class _Branch:
    """Variables and forward pass of one modality."""

    def __init__(self, width: int, dropout: float):
        self.dropout = dropout
        sizes = (width, *WIDTHS)
        self.kernels = [tf.Variable(tf.random.normal(size, stddev=DEVIATION)) for size in pairwise(sizes)]
        self.biases = [tf.Variable(tf.zeros([b])) for b in WIDTHS]
        channels = (width, *WIDTHS[1:], 1)
        self.gammas = [tf.Variable(tf.ones([c])) for c in channels]
        self.betas = [tf.Variable(tf.zeros([c])) for c in channels]
        self.moving = [(tf.Variable(tf.zeros([c])), tf.Variable(tf.ones([c]))) for c in channels]
        self.fusion, self.fusion_bias = tf.Variable([1 / 3] * 3), tf.Variable(0.0)
        # Each variable with its weight decay and its learning rate.
        self.variables = [(kernel, DECAY, RATE) for kernel in self.kernels]
        self.variables += [(self.fusion, DECAY, FUSION_RATE), (self.fusion_bias, 0.0, FUSION_RATE)]
        self.variables += [(v, 0.0, RATE) for v in (*self.biases, *self.gammas, *self.betas)]

    def norm(self, x: tf.Tensor, layer: int) -> tf.Tensor:
        mean, variance = tf.nn.moments(x, list(range(len(x.shape) - 1)))
        for moving, value in zip(self.moving[layer], (mean, variance), strict=True):
            moving.assign(KEEP * moving + (1 - KEEP) * value)
        return tf.nn.batch_normalization(x, mean, variance, self.betas[layer], self.gammas[layer], EPSILON)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.nn.relu(tf.matmul(self.norm(x, 0), self.kernels[0]) + self.biases[0])
        x = tf.nn.dropout(x, self.dropout)
        hidden = []
        for layer in (1, 2, 3):
            x = tf.nn.relu(self.norm(tf.matmul(x, self.kernels[layer]) + self.biases[layer], layer))
            hidden.append(x)
        fused = sum(w * h for w, h in zip(tf.unstack(self.fusion), hidden, strict=True)) + self.fusion_bias
        return self.norm(fused[..., None], 4)[..., 0]


class Model:
    """Variables, loss and update of the joint stage; hashes and signs may be set before `train` is traced."""

    def __init__(self, widths: tuple[int, int], classes: int, dropout: float = 0.5):
        self.image, self.text = (_Branch(width, dropout) for width in widths)
        self.classifier = tf.Variable(tf.random.normal([DIMENSION, classes], stddev=DEVIATION))
        rng = np.random.default_rng(0)
        self.hashes = [tf.constant(rng.integers(DIMENSION, size=512)) for _ in range(2)]
        self.signs = [tf.constant(rng.choice([-1.0, 1.0], size=512), tf.float32) for _ in range(2)]
        self.weighted = [*self.image.variables, *self.text.variables, (self.classifier, DECAY, RATE)]
        self.momenta = [tf.Variable(tf.zeros_like(variable)) for variable, _, _ in self.weighted]

    def sketch(self, x: tf.Tensor, number: int) -> tf.Tensor:
        signed = tf.transpose(x * self.signs[number])
        return tf.transpose(tf.math.unsorted_segment_sum(signed, self.hashes[number], DIMENSION))

    def loss(self, image: tf.Tensor, text: tf.Tensor, ids: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        f, g = self.image(image), self.text(text)
        product = tf.signal.rfft(self.sketch(f, 0)) * tf.signal.rfft(self.sketch(g, 1))
        pooled = tf.signal.irfft(product, fft_length=[DIMENSION])
        pooled = tf.math.l2_normalize(tf.sign(pooled) * tf.sqrt(tf.abs(pooled) + 1e-8), axis=1)
        logits = tf.matmul(pooled, self.classifier)
        f, g = tf.math.l2_normalize(f, axis=1), tf.math.l2_normalize(g, axis=1)
        similarity = tf.matmul(f, g, transpose_b=True)
        negative = tf.cast(ids[:, None] != ids[None, :], tf.float32)
        matching = tf.reduce_sum(f * g, axis=1)[:, None]
        total = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits) * BETA
        for scores, weight in ((similarity, 1.0), (tf.transpose(similarity), ALPHA)):
            hinges = tf.nn.relu(scores - matching + MARGIN) * negative
            total += weight * tf.reduce_sum(tf.math.top_k(hinges, NEGATIVES, sorted=False).values, axis=1) / NEGATIVES
        return tf.reduce_mean(total)

    def train(self, *batch: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            value = self.loss(*batch)
        gradients = tape.gradient(value, [variable for variable, _, _ in self.weighted])
        for gradient, (variable, decay, rate), momentum in zip(gradients, self.weighted, self.momenta, strict=True):
            if decay:
                tf.raw_ops.ResourceApplyGradientDescent(
                    var=momentum.handle, alpha=rate * decay / MOMENTUM, delta=variable
                )
            tf.raw_ops.ResourceApplyKerasMomentum(
                var=variable.handle, accum=momentum.handle, lr=rate, grad=gradient, momentum=MOMENTUM
            )
        return value


def step(data: dict[str, np.ndarray], classes: int) -> Callable[[], None]:
    """Return a function that takes one joint step on `data`."""
    model = Model((data["image"].shape[1], data["text"].shape[1]), classes)
    batch = [tf.constant(data[name]) for name in ("image", "text", "image_id", "label")]

    @tf.function
    def train() -> tf.Tensor:
        return model.train(*batch)

    def take() -> None:
        train().numpy()

    return take
