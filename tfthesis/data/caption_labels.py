"""Labels for captioned images that have none: the frequent content words of the training captions.

Proposed in Liu 2018, section 9.2: "automatically construct a dictionary by parsing all the textual
descriptions. Then we can label each image with its key words derived from the dictionary."

A classifier that is shown a caption would find the caption's own words in its labels, so a caption's label
vector is made from the OTHER captions of its image. The dictionary is made from the training captions, or it
is a list of one's own, which may hold no word that only other captions have.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfthesis.data.image_text import ImageTextItem
from tfthesis.errors import UserError

_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclasses.dataclass(frozen=True)
class WordList:
    """A dictionary of label words.

    Attributes:
        words: each one once.
        images: number of training images with a caption that has the word, at least one.
    """

    words: tuple[str, ...]
    images: tuple[int, ...]


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
    counts = _image_counts(training)
    ranked = sorted(
        ((word, count) for word, count in counts.items() if count >= min_images), key=lambda x: (-x[1], x[0])
    )
    ranked = ranked[:max_words]
    if not ranked:
        raise UserError(f"caption labels: no content word occurs with {min_images} of the {len(training)} images")
    return WordList(words=tuple(word for word, _ in ranked), images=tuple(count for _, count in ranked))


def _image_counts(items: Sequence[ImageTextItem]) -> collections.Counter[str]:
    """Return how many images have a caption with the word, for each content word."""
    counts: collections.Counter[str] = collections.Counter()
    for item in items:
        counts.update(set().union(*map(content_words, item.captions)))
    return counts


def read_words(path: Path) -> tuple[str, ...]:
    """Return the words of a UTF-8 text file with one a line.

    Raises:
        UserError: the file is missing or empty, or a line is no content word or comes twice; names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"word list {path}: {error}") from error
    words: list[str] = []
    for number, line in enumerate(lines, start=1):
        word = line.strip().lower()
        if content_words(word) != {word}:
            raise UserError(f"word list {path}, line {number}: expected one word that is no stop word, got {line!r}")
        if word in words:
            raise UserError(f"word list {path}, line {number}: {word!r} stands twice")
        words.append(word)
    if not words:
        raise UserError(f"word list {path} is empty")
    return tuple(words)


def given_word_list(
    words: Sequence[str], training: Sequence[ImageTextItem], held_out: Mapping[str, Sequence[ImageTextItem]]
) -> WordList:
    """Return a list of one's own, counted on the training captions.

    Args:
        words: the list in question.
        training: the items of the training split.
        held_out: the items of the other splits by name.

    Raises:
        UserError: no training caption has a word; says so where captions of another split do.
    """
    counts = _image_counts(training)
    unknown = [word for word in words if not counts[word]]
    if unknown:
        for split, items in held_out.items():
            leaked = sorted(set(unknown) & set(_image_counts(items)))
            if leaked:
                raise UserError(
                    f"caption labels: captions of split {split!r} entered the word list: no training caption has "
                    f"{leaked[:5]}; use training captions only"
                )
        raise UserError(f"caption labels: no training caption has the words {unknown[:5]} of the word list")
    return WordList(tuple(words), tuple(counts[word] for word in words))


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
