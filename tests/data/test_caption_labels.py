"""Labels out of captions: the word list knows the training captions only, and no caption labels itself."""

import numpy as np
import pytest

from tfthesis.data.caption_labels import (
    build_word_list,
    caption_labels,
    content_words,
    given_word_list,
    read_words,
)
from tfthesis.data.image_text import ImageTextItem
from tfthesis.errors import UserError


def item(name, *captions):
    return ImageTextItem(name, None, captions)


TRAIN = [
    item("1", "A dog runs on the grass .", "The brown dog plays"),
    item("2", "Two dogs and a ball", "A dog with a red ball"),
    item("3", "A girl throws a ball", "The girl is on grass"),
    item("4", "A man reads", "he sits and reads"),
]
TEST = [item("5", "A zebra", "zebra at the zoo"), item("6", "zebra and dog", "a zebra")]


def test_content_words_leave_out_stop_words_and_numbers():
    assert content_words("The 2 DOGS aren't on Über-grass, a1 x!") == {"dogs", "über", "grass", "aren"}


def test_words_are_ranked_by_the_number_of_images():
    words = build_word_list(TRAIN, max_words=10)
    assert words.words == ("ball", "dog", "grass")
    assert words.images == (2, 2, 2)
    assert build_word_list(TRAIN, max_words=2).words == ("ball", "dog")
    assert "reads" in build_word_list(TRAIN, max_words=99, min_images=1).words


def test_a_caption_is_labelled_by_the_other_captions_of_its_image():
    words = ["dog", "ball", "grass"]
    np.testing.assert_array_equal(
        caption_labels(TRAIN[:3], words),
        [
            [1, 0, 0],  # the other caption has the dog, only this one the grass
            [1, 0, 1],
            [1, 1, 0],  # "dogs" is another word
            [0, 1, 0],
            [0, 0, 1],
            [0, 1, 0],
        ],
    )


def test_own_words_never_enter():
    """Changing a caption changes the labels of its siblings and never its own."""
    before = caption_labels([item("1", "a dog", "a ball", "some grass")], ["dog", "ball", "grass"])
    after = caption_labels([item("1", "a ball and grass", "a ball", "some grass")], ["dog", "ball", "grass"])
    np.testing.assert_array_equal(before[0], after[0])
    assert (before[1:] != after[1:]).any()


def test_one_caption_is_not_enough():
    with pytest.raises(UserError, match=r"image '9' has one caption"):
        caption_labels([item("9", "a dog")], ["dog"])


def test_no_frequent_word():
    with pytest.raises(UserError, match="no content word"):
        build_word_list([item("1", "a dog", "the cat")], max_words=5)


def test_a_list_of_ones_own_is_counted_on_the_training_captions(tmp_path):
    (tmp_path / "words.txt").write_text("Girl\nball\n")
    words = given_word_list(read_words(tmp_path / "words.txt"), TRAIN, {"test": TEST})
    assert (words.words, words.images) == (("girl", "ball"), (1, 2))


def test_test_captions_in_the_word_list_are_refused():
    leaked = build_word_list([*TRAIN, *TEST], 99, min_images=2).words
    assert "zebra" in leaked
    with pytest.raises(UserError, match=r"captions of split 'test' entered the word list: .* \['zebra'\]"):
        given_word_list(leaked, TRAIN, {"val": [], "test": TEST})


def test_a_word_that_nobody_wrote_is_refused():
    with pytest.raises(UserError, match=r"no training caption has the words \['unicorn'\]"):
        given_word_list(["dog", "unicorn"], TRAIN, {"test": TEST})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog\nthe\n", "line 2: expected one word that is no stop word, got 'the'"),
        ("a dog\n", "line 1: expected one word"),
        ("dog\nball\ndog\n", "line 3: 'dog' stands twice"),
        ("", "is empty"),
        (None, "No such file"),
    ],
)
def test_broken_word_files_are_named(tmp_path, text, message):
    if text is not None:
        (tmp_path / "words.txt").write_text(text)
    with pytest.raises(UserError, match=f"words.txt.*{message}"):
        read_words(tmp_path / "words.txt")
