"""Ranking losses between the images and the texts of a global batch."""

from __future__ import annotations

import tensorflow as tf

from tfthesis.models.replicas import Replicas


def hardest_violators(
    similarity: tf.Tensor, matching: tf.Tensor, negative: tf.Tensor, margin: float, count: int
) -> tf.Tensor:
    """Return the summed hinges of each anchor's hardest violating negatives, divided by `count`.

    A negative violates when it comes closer to the anchor than the match plus the margin. The text calls
    the picked candidates "most dissimilar"; they are the non-matching ones of highest similarity.

    Args:
        similarity: `[n, N]`, anchors by candidates.
        matching: `[n]`, similarity of each anchor to its match.
        negative: bool `[n, N]`, whether the candidate belongs to another image.
        margin: m of Eq 7.4.
        count: K of Eq 7.4; always the divisor, also where fewer violate, as in the released layer.

    Returns:
        `[n]`.
    """
    hinges = tf.nn.relu(similarity - matching[:, None] + margin) * tf.cast(negative, similarity.dtype)
    hardest = tf.math.top_k(hinges, tf.minimum(count, tf.shape(hinges)[1]), sorted=False).values
    return tf.reduce_sum(hardest, axis=1) / count


def bi_directional_rank_loss(
    image: tf.Tensor,
    text: tf.Tensor,
    image_id: tf.Tensor,
    replicas: Replicas,
    *,
    margin: float,
    alpha: float,
    negatives: int,
) -> tf.Tensor:
    """Return the loss of each image-text pair against the negatives of the global batch.

    Captions of the same image are never each other's negatives.

    Args:
        image, text: L2-normalised embeddings `[n, D]` of this replica's pairs.
        image_id: integer `[n]`.
        replicas: the devices that hold the rest of the global batch.
        margin, alpha, negatives: m, the weight of the text-anchored term, and K of Eq 7.4.

    Returns:
        `[n]`, float32 or wider.

    Source: Liu 2018, Eq 7.3 and 7.4; the divisor K as in the released layer.
    """
    if image.dtype.size < 4:
        image, text = tf.cast(image, tf.float32), tf.cast(text, tf.float32)
    negative = image_id[:, None] != replicas.gather(image_id)[None, :]
    matching = tf.reduce_sum(image * text, axis=1)
    to_texts = tf.matmul(image, replicas.gather(text), transpose_b=True)
    # On one device both directions share one product.
    alone = replicas.context is None
    to_images = tf.transpose(to_texts) if alone else tf.matmul(text, replicas.gather(image), transpose_b=True)
    image_anchored = hardest_violators(to_texts, matching, negative, margin, negatives)
    text_anchored = hardest_violators(to_images, matching, negative, margin, negatives)
    return image_anchored + alpha * text_anchored
