"""Labels for captioned images that have none: the frequent content words of the training captions.

Proposed in Liu 2018, section 9.2: "automatically construct a dictionary by parsing all the textual
descriptions. Then we can label each image with its key words derived from the dictionary."

A classifier that is shown a caption would find the caption's own words in its labels, so a caption's label
vector is made from the OTHER captions of its image. The dictionary is a pure function of the training
captions; `check_word_list` refuses one that is not.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from tfthesis.data.image_text import ImageTextItem
from tfthesis.method import UserError

_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclasses.dataclass(frozen=True)
class WordList:
    """A dictionary of label words.

    Attributes:
        words: the most frequent first, equal ones in alphabetical order.
        images: number of training images with a caption that has the word, at least `min_images`.
        max_words, min_images: what the list was made with.
        fingerprint: SHA-256 of the captions it was made from.
    """

    words: tuple[str, ...]
    images: tuple[int, ...]
    max_words: int
    min_images: int
    fingerprint: str


def content_words(caption: str) -> set[str]:
    """Return the words of a caption in lower case, without numbers and English stop words."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return set(_WORD.findall(caption.lower())) - ENGLISH_STOP_WORDS


def build_word_list(training: Sequence[ImageTextItem], max_words: int, min_images: int = 2) -> WordList:
    """Return the content words that most training images mention.

    Args:
        training: the items of the training split, and of no other.
        max_words: length of the list at most.
        min_images: a word that fewer images mention is left out.

    Raises:
        UserError: no word is mentioned often enough.
    """
    counts: collections.Counter[str] = collections.Counter()
    for item in training:
        counts.update(set().union(*map(content_words, item.captions)))
    ranked = sorted(
        ((word, count) for word, count in counts.items() if count >= min_images), key=lambda x: (-x[1], x[0])
    )
    ranked = ranked[:max_words]
    if not ranked:
        raise UserError(f"caption labels: no content word occurs with {min_images} of the {len(training)} images")
    return WordList(
        words=tuple(word for word, _ in ranked),
        images=tuple(count for _, count in ranked),
        max_words=max_words,
        min_images=min_images,
        fingerprint=_fingerprint(training),
    )


def _fingerprint(items: Sequence[ImageTextItem]) -> str:
    digest = hashlib.sha256()
    for item in items:
        digest.update("\0".join([item.id, *item.captions, "\n"]).encode())
    return digest.hexdigest()


def check_word_list(
    words: WordList, training: Sequence[ImageTextItem], held_out: Mapping[str, Sequence[ImageTextItem]]
) -> None:
    """Refuse a word list that knows more than the training captions.

    Args:
        words: the list in question.
        training: the items it must have been made from.
        held_out: the items of the other splits by name.

    Raises:
        UserError: other captions entered the list, or a held-out image is a training image too.
    """
    trained = {item.id for item in training}
    for split, items in held_out.items():
        shared = next((item.id for item in items if item.id in trained), None)
        if shared is not None:
            raise UserError(f"caption labels: image {shared!r} of split {split!r} is a training image too")
    expected = build_word_list(training, words.max_words, words.min_images)
    if expected == words:
        return
    for split, items in held_out.items():
        if words.fingerprint in (_fingerprint(items), _fingerprint([*training, *items])):
            raise UserError(
                f"caption labels: captions of split {split!r} entered the word list; use training captions only"
            )
    strange = [word for word in words.words if word not in expected.words][:5]
    raise UserError(
        "caption labels: the word list was not made from these training captions alone"
        f"{f' (it has {strange})' if strange else ''}; build it again from split 'train'"
    )


def caption_labels(items: Sequence[ImageTextItem], words: Sequence[str]) -> np.ndarray:
    """Return for each caption which words the OTHER captions of its image have, float32 0/1 `[M, W]`.

    Raises:
        UserError: an image has a single caption, which leaves nothing to label it with.
    """
    column = {word: index for index, word in enumerate(words)}
    rows = np.zeros((sum(len(item.captions) for item in items), len(column)), np.float32)
    start = 0
    for item in items:
        if len(item.captions) < 2:
            raise UserError(f"caption labels: image {item.id!r} has one caption; at least two are needed")
        own = np.zeros((len(item.captions), len(column)), np.int32)
        for number, caption in enumerate(item.captions):
            own[number, [column[word] for word in content_words(caption) if word in column]] = 1
        rows[start : start + len(own)] = own.sum(0) - own > 0
        start += len(own)
    return rows
