"""What a recipe says of its data either has an effect or is refused."""

import pytest

from tfthesis.discovery import load_method
from tfthesis.errors import UserError

METHOD = load_method("mmc_net")


def opened(**changes):
    recipe = METHOD.recipe("tiny", **changes)
    return METHOD.data(recipe, recipe.dataset, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reader": ("images=[3,3,3]",)}, "'images' of scenes is the recipe field 'scene_images'"),
        ({"image_encoder": "precomputed", "image_weights": "w.npz"}, "image_weights: precomputed features take no"),
        ({"word_list": "words.txt"}, "word_list: labels 'given' take no dictionary"),
        ({"labels": "caption_words", "word_list": "nowhere.txt"}, "nowhere.txt"),
        ({"reader": ("fold",)}, "reader: expected items such as name=value"),
    ],
)
def test_settings_without_an_effect_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        opened(**changes)


def test_a_dictionary_of_ones_own_names_the_classes(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("car\nboat\n")
    assert opened(labels="caption_words", word_list=str(path)).spec.classes == ("car", "boat")
    path.write_text("car\nzeppelin\n")
    with pytest.raises(UserError, match="no training caption has the words .'zeppelin'."):
        opened(labels="caption_words", word_list=str(path))


def test_folds_divide_the_drawn_images():
    assert opened(reader=("fold=1/4",)).dataset.counts()["test"]["images"] == 11
