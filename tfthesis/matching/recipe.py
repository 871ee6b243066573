"""What the recipes of all image-text methods have in common."""

from __future__ import annotations

import dataclasses

from tfthesis.recipe import Recipe, setting

#: Text encoder whose rows a sentence encoder reads that trains with the model.
WORD_ROWS = "word_rows"


@dataclasses.dataclass(frozen=True)
class PairRecipe(Recipe):
    """Data, encoders and the numbers of the branches' layers and of their optimizer.

    Source: Liu 2018, chapters 5 to 7.
    """

    image_encoder: str = setting("resnet152", "image encoder", source="sections 5.3.1, 6.4.1, 7.2.1")
    text_encoder: str = setting("word_vectors", "text encoder")

    reader: tuple[str, ...] = setting((), "options of the dataset's reader, each as name=value")
    image_weights: str = setting("", "name or path of the image encoder's weights; empty takes its default")
    text_weights: str = setting(
        "", "path of the text encoder's weights, or the name of precomputed text features; empty takes the default"
    )
    text_options: tuple[str, ...] = setting((), "options of the text encoder, each as name=value")
    sentence_units: int = setting(
        2048,
        "units each way of the BiLSTM-max that trains with the model where the text encoder is word_rows",
        source="section 6.4.1",
    )
    scene_images: tuple[int, int, int] = setting(
        (1000, 200, 500), "rendered scenes for training, validation and test", unit="images"
    )
    momentum: float = setting(0.9, "of SGD", source="sections 5.4, 6.4.1, 7.4.1")
    weight_decay: float = setting(0.0005, "L2 decay of the branches' kernels", source="sections 5.4, 6.4.1, 7.4.1")
    norm_momentum: float = setting(0.9, "decay of the BatchNorm statistics, a step")
    norm_epsilon: float = setting(1e-5, "added to BatchNorm's variance", source="Caffe's default")

    def idle(self) -> frozenset[str]:
        """Return `sentence_units` where no sentence encoder trains."""
        return frozenset() if self.text_encoder == WORD_ROWS else frozenset({"sentence_units"})
