"""The numbers of HED, FCFN and RDS: networks for edges that differ in fusion, supervision and loss."""

from __future__ import annotations

import dataclasses

from tfthesis.recipe import Recipe, setting

_HED = "released HED"
_TRAINED = "released HED and RDS"


@dataclasses.dataclass(frozen=True)
class EdgeRecipe(Recipe):
    """Every number of an edge network; the defaults are those of RDS (Liu 2018, chapter 3)."""

    reader: tuple[str, ...] = setting((), "options of the dataset's reader, each as name=value")
    scene_images: tuple[int, int, int] = setting(
        (200, 30, 60), "rendered scenes for training, validation and test", unit="images"
    )
    scene_size: int = setting(96, "side of a rendered scene", unit="pixels")
    height: int = setting(400, "of a training image", unit="pixels", source="sections 2.4.5, 3.4.1")
    width: int = setting(400, "of a training image", unit="pixels", source="sections 2.4.5, 3.4.1")
    placement: str = setting(
        "stretch",
        "training images are stretched to height and width, or cropped at a random place",
        choices=("stretch", "crop"),
        source="sections 2.4.5, 3.4.1",
    )
    mirror: bool = setting(False, "flip training images by lot", source="section 3.4.2: no augmentation")
    agreeing: int = setting(3, "annotators who make an edge", source="section 3.4.2")
    dilate: bool = setting(
        True,
        "dilate the edges of training images, 3 x 3",
        source="RDS: section 3.4.1, Fig 3.7; FCFN: not in 2.4.5",
    )

    trunk: str = setting(
        "vgg16",
        "VGG-16, or the same five stages with fewer and smaller convolutions",
        choices=("vgg16", "narrow", "tiny"),
        source="section 3.2.1",
    )
    weights: str = setting(
        "",
        "weights of VGG-16 to start from: a file, or imagenet to download them; empty starts by lot",
        source=_TRAINED,
    )
    fusion: str = setting(
        "convolution",
        "weights of the five side outputs: one each (HED, RDS), or one for each and every place (FCFN)",
        choices=("convolution", "local"),
        source="Eq 2.10",
    )
    train_upsampling: bool = setting(True, "train the bilinear kernels", source="released RDS; HED keeps them")

    supervised: tuple[int, ...] = setting(
        (1, 2, 3, 4, 5), "side outputs with a loss, beside the fused output", source="Eq 3.3, Table 3.2"
    )
    relaxed: str = setting(
        "canny",
        "detector whose edges are relaxed labels of the side outputs: Canny's, soft edge maps from files, none",
        choices=("none", "canny", "maps"),
        source="section 3.2.1",
    )
    relaxed_maps: str = setting(
        "", "folder of soft edge maps NAME.png or NAME.npy of training images, for relaxed=maps"
    )
    positive: float = setting(
        9.0,
        "weight of an edge pixel in the loss; 0 balances each image as HED does",
        source="RDS: section 3.2.2; FCFN: Eq 2.11",
    )
    loss_reduction: str = setting("sum", "of an image's pixels", choices=("mean", "sum"), source="Eq 3.3")

    coarse_dataset: str = setting(
        "",
        "dataset whose borders of segments, or edges, train the fused output first (CEA), as PASCAL Context did; "
        "scenes are 400 drawn ones unless coarse_reader says otherwise; empty leaves it out",
        source="Eq 3.6",
    )
    coarse_folder: str = setting("", "where it lies")
    coarse_reader: tuple[str, ...] = setting((), "options of its reader, each as name=value")
    coarse_epochs: int = setting(
        8, "passes over it", unit="epochs", source="section 3.4.4: 10,000 steps of 10,103 images"
    )
    tuning_rate: float = setting(
        1.0,
        "multiplier of every learning rate after coarse edges: the features have grown by then, and the side outputs, "
        "which nothing has supervised, may diverge at a rate that is good for a network at its start",
        source="Algorithm 1 has one rate",
    )

    batch_size: int = setting(8, "images in a global batch", unit="images", source="sections 2.4.5, 3.4.1")
    epochs: tuple[int, ...] = setting(
        (25,),
        "stretches of training, after each of which the learning rate falls; 0 trains on coarse edges alone",
        unit="epochs",
        source="sections 2.4.5, 3.4.1",
    )
    learning_rate: float = setting(1e-9, "of the first stretch", source="RDS: section 3.4.1; FCFN: 2.4.5")
    rate_factor: float = setting(
        0.1, "factor of the learning rate after a stretch", source="sections 2.4.5 and 3.4.1 have one rate"
    )
    momentum: float = setting(0.9, "of SGD", source="sections 2.4.5, 3.4.1")
    weight_decay: float = setting(
        0.0002,
        "L2 decay of kernels; biases do not decay",
        source="sections 2.4.5, 3.4.1; what decays: released networks",
    )
    bias_rate: float = setting(2.0, "multiplier of the learning rate of biases", source=_TRAINED)
    top_rate: float = setting(100.0, "multiplier of the learning rate of the fifth stage", source=_TRAINED)
    side_rate: float = setting(0.01, "multiplier of the learning rate of side outputs", source=_TRAINED)
    fusion_rate: float = setting(0.01, "multiplier of the learning rate of the fusion", source="released RDS; HED .001")
    place_rate: float = setting(
        1000.0,
        "further multiplier for local fusion, each of whose weights sees one place of an image and not all",
        source="our choice: with the fusion_rate .001 of preset thesis CFN's 1; without it these weights hardly move",
    )
    upsampling_rate: float = setting(0.01, "multiplier of the learning rate of the upsampling", source="released RDS")
    patience: int = setting(0, "stop a stretch after so many epochs without a better score; 0 never", unit="epochs")

    test_dataset: str = setting(
        "", "edge dataset whose test split is measured instead of the one's that is trained on", source="section 3.4.3"
    )
    test_folder: str = setting("", "where it lies")
    test_size: str = setting(
        "own",
        "images are looked at in their own size, or stretched to height and width, as local fusion needs it",
        choices=("own", "training"),
        source="our choice; section 2.4.5 does not say",
    )
    test_scales: tuple[float, ...] = setting(
        (1.0,), "sizes at which an image is looked at; their edge maps are averaged", source="Table 3.3: one scale"
    )
    suppress: bool = setting(True, "thin edge maps by non-maximum suppression before they are measured", source="3.4.1")
    max_dist: float = setting(
        0.0075, "reach of a match in shares of the image's diagonal", source="section 3.4.3: .0075, or .011 for NYUD"
    )
    further_reaches: tuple[float, ...] = setting(
        (), "further reaches at which the test split is measured", source="Table 3.4 has two"
    )
    thresholds: int = setting(99, "thresholds of the measurement", source="the Berkeley benchmark")
    test_images: int = setting(0, "measured images of the test split, the first ones; 0 takes all", unit="images")
    val_images: int = setting(20, "measured images of the validation split, the first ones", unit="images")
    val_thresholds: int = setting(9, "thresholds of the validation split")

    def idle(self) -> frozenset[str]:
        """Return the fields that change nothing, given the others."""
        own = set()
        if self.fusion != "local":
            own.add("place_rate")
        if not self.train_upsampling:
            own.add("upsampling_rate")
        if self.relaxed != "maps":
            own.add("relaxed_maps")
        if not self.coarse_dataset:
            own |= {"coarse_folder", "coarse_reader", "coarse_epochs"}
        if not self.coarse_dataset or not any(self.epochs):
            own.add("tuning_rate")
        if not self.test_dataset:
            own.add("test_folder")
        if self.dataset != "scenes":
            own |= {"scene_images", "scene_size"}
        return frozenset(own)


#: Of a network on images of 96 pixels that starts by lot and trains on two cores.
NARROW = {
    "dataset": "scenes",
    "weights": "",
    "height": 96,
    "width": 96,
    "trunk": "narrow",
    "loss_reduction": "mean",
    # Beside a loss that is summed over pixels the thesis's decay is next to none; beside their mean it would be strong.
    "weight_decay": 0.0,
    "epochs": (25, 5),
    "top_rate": 1.0,
    "side_rate": 1.0,
    "tuning_rate": 0.4,
    "thresholds": 33,
}
#: Of the same network on BSDS500, in a few minutes of one core.
PHOTOGRAPHS = {"dataset": "bsds500", "epochs": (14, 3), "test_images": 50, "val_images": 10}
#: Of the same in seconds.
TINY = {
    "trunk": "tiny",
    "height": 48,
    "width": 48,
    "scene_size": 48,
    "scene_images": (12, 4, 4),
    "batch_size": 3,
    "epochs": (1, 1),
    "thresholds": 5,
    "val_images": 2,
    "val_thresholds": 3,
}
