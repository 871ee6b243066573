"""Ranking losses between the images and the texts of a global batch."""

from __future__ import annotations

import tensorflow as tf

from tfthesis.models.replicas import Replicas


def hardest_violators(
    similarity: tf.Tensor, matching: tf.Tensor, negative: tf.Tensor, margin: float, count: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the hinges of each anchor's hardest violating negatives, and which candidates they are.

    A negative violates when it comes closer to the anchor than the match plus the margin. The text calls
    the picked candidates "most dissimilar"; they are the non-matching ones of highest similarity.

    Args:
        similarity: `[n, N]`, anchors by candidates.
        matching: `[n]`, similarity of each anchor to its match.
        negative: bool `[n, N]`, whether the candidate belongs to another image.
        margin: m of Eq 5.8 and 7.4.
        count: N of Eq 5.8, K of Eq 7.4.

    Returns:
        Hinges `[n, k]`, zero where fewer violate, and int32 candidates `[n, k]`; k is `count`, or all candidates
        where they are fewer.
    """
    hinges = tf.nn.relu(similarity - matching[:, None] + margin) * tf.cast(negative, similarity.dtype)
    hardest = tf.math.top_k(hinges, tf.minimum(count, tf.shape(hinges)[1]), sorted=False)
    return hardest.values, hardest.indices


def bi_rank_loss(
    image: tf.Tensor,
    text: tf.Tensor,
    image_id: tf.Tensor,
    replicas: Replicas,
    *,
    margin: float,
    alphas: tuple[float, float, float, float],
    negatives: int,
) -> tf.Tensor:
    """Return the loss of each image-text pair against the negatives of the global batch.

    Captions of the same image are never each other's negatives. The intra-modal terms compare a match with
    the very negatives that the cross-modal terms picked: an image's violating texts with its own text, and
    a text's violating images with its own image.

    Args:
        image, text: L2-normalised embeddings `[n, D]` of this replica's pairs.
        image_id: integer `[n]`.
        replicas: the devices that hold the rest of the global batch.
        margin: m.
        alphas: weights of the hinges image to text, text to text, text to image, image to image. The released
            layer's four numbers have this order; in the text, Eq 5.10 gives them the names alpha 1, alpha 2 and
            beta 1, beta 2.
        negatives: N of Eq 5.8; always the divisor, also where fewer violate, as in the released layer.

    Returns:
        `[n]`, float32 or wider.

    Source: Liu 2018, Eq 5.7 to 5.10, whose `s` is a distance; the layer released with chapter 5.
    """
    if image.dtype.size < 4:
        image, text = tf.cast(image, tf.float32), tf.cast(text, tf.float32)
    negative = image_id[:, None] != replicas.gather(image_id)[None, :]
    matching = tf.reduce_sum(image * text, axis=1)
    images, texts = replicas.gather(image), replicas.gather(text)
    to_texts = tf.matmul(image, texts, transpose_b=True)
    # On one device both directions share one product.
    alone = replicas.context is None
    to_images = tf.transpose(to_texts) if alone else tf.matmul(text, images, transpose_b=True)

    def direction(similarity: tf.Tensor, match: tf.Tensor, candidates: tf.Tensor, cross: float, intra: float):
        hinges, picked = hardest_violators(similarity, matching, negative, margin, negatives)
        total = cross * tf.reduce_sum(hinges, axis=1)
        if intra:
            alike = tf.gather(tf.matmul(match, candidates, transpose_b=True), picked, batch_dims=1)
            within = tf.nn.relu(alike - matching[:, None] + margin) * tf.cast(hinges > 0, alike.dtype)
            total += intra * tf.reduce_sum(within, axis=1)
        return total / negatives

    image_cross, text_intra, text_cross, image_intra = alphas
    return direction(to_texts, text, texts, image_cross, text_intra) + direction(
        to_images, image, images, text_cross, image_intra
    )


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
    """Return `bi_rank_loss` without the intra-modal terms; `alpha` weighs the text-anchored hinges.

    Source: Liu 2018, Eq 7.3 and 7.4; Table 5.3 writes it as the bi-rank loss with weights 1, 0, 2, 0.
    """
    return bi_rank_loss(
        image, text, image_id, replicas, margin=margin, alphas=(1.0, 0.0, alpha, 0.0), negatives=negatives
    )


def neighbour_loss(
    vectors: tf.Tensor, group: tf.Tensor, replicas: Replicas, *, margin: float, negatives: int
) -> tf.Tensor:
    """Return for each vector how far its group's farthest member lies behind vectors of other groups.

    It keeps the captions of one image together. Anchors without another member of their group give zero, and the
    others grow by one over their share, so that the mean over a batch is that over the anchors that have one.

    Args:
        vectors: L2-normalised `[n, D]` of this replica.
        group: integer `[n]`, such as the image that a caption describes.
        replicas: the devices that hold the rest of the global batch.
        margin, negatives: as in `bi_rank_loss`.

    Returns:
        `[n]`, float32 or wider.

    Source: Wang et al., CVPR 2016 (DSPE), the structure-preserving constraint of the text view. There every batch
    holds two captions of each image and all pairs of neighbours count; here pairs are drawn as for the other methods,
    and of an anchor's neighbours the farthest counts, so that the cost stays that of the other terms.
    """
    vectors = tf.cast(vectors, tf.float32) if vectors.dtype.size < 4 else vectors
    similarity = tf.matmul(vectors, replicas.gather(vectors), transpose_b=True)
    same = group[:, None] == replicas.gather(group)[None, :]
    row = replicas.offset(tf.shape(vectors)[0]) + tf.range(tf.shape(vectors)[0])
    others = same & (row[:, None] != tf.range(tf.shape(similarity)[1])[None, :])
    # Cosines are at most one, so that two marks what is no neighbour.
    farthest = tf.reduce_min(tf.where(others, similarity, 2.0), axis=1)
    hinges, _ = hardest_violators(similarity, farthest, ~same, margin, negatives)
    has = tf.reduce_any(others, axis=1)
    counts = replicas.total(tf.stack([tf.size(has), tf.math.count_nonzero(has, dtype=tf.int32)]))
    share = tf.cast(counts[0], hinges.dtype) / tf.cast(tf.maximum(counts[1], 1), hinges.dtype)
    return tf.where(has, tf.reduce_sum(hinges, axis=1) * share / negatives, 0.0)
