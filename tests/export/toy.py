"""A small set of served functions that has one of everything an export can hold."""

import keras
import numpy as np
import tensorflow as tf

from tfthesis.method import Gallery, Served, Signature
from tfthesis.retrieval.neighbours import build_neighbours

WIDTH = 6
TEXTS = ["red", "green", "blue", "käse"]


class Vectors(tf.Module):
    """A word table with vectors, and a Keras layer as an attribute."""

    def __init__(self):
        super().__init__()
        keys = tf.lookup.KeyValueTensorInitializer(TEXTS, tf.range(4, dtype=tf.int64))
        self.table = tf.lookup.StaticHashTable(keys, 4)
        self.vectors = tf.Variable(np.eye(5, WIDTH), dtype=tf.float32)
        self.layers = {"last": [keras.layers.Dense(WIDTH)]}
        self.layers["last"][0].build((None, WIDTH))

    def __call__(self, text):
        return self.layers["last"][0](tf.gather(self.vectors, self.table.lookup(text)))


def build_model():
    inputs = keras.Input((WIDTH,))
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(8, "relu")(inputs))
    return keras.Model(inputs, keras.layers.Dense(WIDTH)(keras.layers.Dropout(0.5)(hidden)))


def build_gallery(size=20):
    vectors = np.random.default_rng(size).normal(size=(size, WIDTH)).astype(np.float32)
    return Gallery([f"photo {row}" for row in range(size)], vectors, [f"caption {row} ☀" for row in range(size)])


def build_served(model=None, index=None):
    model = model or build_model()
    index = index or build_neighbours(build_gallery())
    words = Vectors()
    features = tf.TensorSpec([None, WIDTH], name="features")
    text = tf.TensorSpec([None], tf.string, name="text")
    example = np.linspace(-1, 1, 2 * WIDTH).reshape(2, WIDTH)
    signatures = {
        "encode": Signature(lambda features: {"embedding": model(features)}, {"features": features},
                            {"features": example}, "embed features"),
        "search_by_text": Signature(lambda text: index.search(model(words(text)), 3), {"text": text},
                                    {"text": np.array(["red", "nothing"], object)}, "find photos"),
        "pair": Signature(lambda features, text: {"sum": features + words(text), "count": tf.size(text)},
                          {"features": features, "text": text},
                          {"features": example[:1], "text": [b"k\xc3\xa4se"]}, "add both"),
    }  # fmt: skip
    return Served(signatures, [model, words, index])
