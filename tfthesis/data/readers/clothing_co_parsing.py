"""Clothing Co-Parsing (Yang, Luo, Lin, CVPR 2014): photos of persons with 59 classes of clothes at each pixel."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.ndimage
from scipy.io.matlab import MatReadError

from tfthesis.data.image_text import image_identity, required
from tfthesis.data.joints import SKIN_PARTS, known_limbs, nearest_parts, openpose_file, read_openpose
from tfthesis.data.part_maps import regrouped
from tfthesis.data.person_images import BODY, JOINTS, People, PersonImages
from tfthesis.errors import UserError

PEOPLE = {
    "clothing_co_parsing": (
        "photos/ID.jpg and annotations/pixel-level/ID.mat of the dataset; it has no joints, which "
        "--set reader=joints=FOLDER reads from ID.json of OpenPose"
    )
}
#: The part of each class (our choice): what is held in a hand belongs to no part, what is worn on the whole body is
#: upper clothes, and shoes and stockings are legs. Skin is divided when a map is read.
PARTS = {
    "background": ("null", "accessories", "bag", "purse", "wallet"),
    "head": ("earrings", "glasses", "hair", "hat", "sunglasses"),
    "arms": ("bracelet", "gloves", "ring", "watch"),
    "legs": (
        *("boots", "clogs", "flats", "heels", "loafers", "pumps", "sandals", "shoes", "sneakers", "socks"),
        *("stockings", "tights", "wedges"),
    ),
    "upper": (
        *("blazer", "blouse", "bodysuit", "bra", "cape", "cardigan", "coat", "dress", "hoodie", "intimate", "jacket"),
        *("jumper", "necklace", "romper", "scarf", "shirt", "suit", "sweater", "sweatshirt", "swimwear", "t-shirt"),
        *("tie", "top", "vest"),
    ),
    "lower": ("belt", "jeans", "leggings", "panties", "pants", "shorts", "skirt"),
}
SKIN = "skin"
#: All classes in the order of their labels: null, then by the alphabet.
CLASSES = ("null", *sorted({name for names in PARTS.values() for name in names} - {"null"} | {SKIN}))
# Without joints, bare skin whose middle lies below this share of the person's height is a leg: hands end higher.
_LEGS_BELOW = 0.6


@dataclasses.dataclass(frozen=True)
class PixelLevel:
    """The labels of a photo, regrouped into `BODY`.

    Attributes:
        path: of the `.mat` file.
        joints: float32 `[18, 3]` in pixels, as bytes; empty without.
    """

    path: Path
    joints: bytes = b""

    def __str__(self) -> str:
        return str(self.path)

    def identity(self) -> list[Any]:
        """Return name, size and some bytes of the file."""
        return image_identity(self.path)

    def read(self) -> np.ndarray:
        """Return the labels of `BODY` uint8 `[H, W]`.

        Raises:
            UserError: the file is damaged, or has a label that is no class.
        """
        try:
            labels = np.asarray(scipy.io.loadmat(self.path)["groundtruth"])
        except (OSError, ValueError, KeyError, TypeError, NotImplementedError, MatReadError) as error:
            raise UserError(f"{self.path}: expected a MAT file with the labels 'groundtruth': {error}") from error
        if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
            raise UserError(f"{self.path}: expected integer labels [H, W], got {labels.dtype} {list(labels.shape)}")
        part = {name: part for part, names in PARTS.items() for name in names} | {SKIN: "background"}
        parts = regrouped(labels, [part[name] for name in CLASSES], str(self.path))
        skin = labels == CLASSES.index(SKIN)
        if skin.any():
            found = np.frombuffer(self.joints, np.float32).reshape(-1, 3)
            known = len(found) and known_limbs(found, SKIN_PARTS)
            divided = nearest_parts(skin, found, SKIN_PARTS) if known else divided_skin(skin, parts)
            parts = np.where(skin, divided, parts)
        return parts


def divided_skin(skin: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Return the parts of bare skin uint8 `[H, W]` where no joints are known: an approximation.

    A connected piece is head where it touches hair, hat or glasses; legs where its middle lies in the lower part of the
    person; and arms otherwise. What is seen of a chest belongs to the head with which it is one piece, and an arm that
    hair or a hand at the face joins to the head does too.

    Args:
        skin: bool `[H, W]`.
        parts: labels of `BODY` `[H, W]` of everything but skin.
    """
    pieces, count = scipy.ndimage.label(skin, np.ones((3, 3)))
    near = scipy.ndimage.binary_dilation(parts == BODY.index("head"), np.ones((3, 3)), iterations=2)
    heads = set(np.unique(pieces[near]).tolist()) - {0}
    rows = np.flatnonzero(((parts > 0) | skin).any(axis=1))
    limit = rows[0] + _LEGS_BELOW * (rows[-1] - rows[0])
    middles = scipy.ndimage.center_of_mass(skin, pieces, np.arange(1, count + 1))
    names = [
        "head" if piece in heads else "legs" if middle[0] > limit else "arms" for piece, middle in enumerate(middles, 1)
    ]
    return np.array([0, *(BODY.index(name) for name in names)], np.uint8)[pieces]


def open_people(name: str, directory: Path | None = None, *, joints: str = "") -> PersonImages:
    """Return all photos with pixel labels as the test split: there is one photo a person, and no official split.

    There are no pairs, so that nothing can be trained on them, and no joints, without which poses are empty: make them
    with a pose estimator and name their folder.

    Args:
        name: "clothing_co_parsing".
        directory: with the folders photos and annotations.
        joints: folder of files ID.json or ID_keypoints.json, as OpenPose writes them; photos in which it found no
            person are left out and listed.

    Raises:
        UserError: a folder, a photo or a file of joints is missing.
    """
    folder = required(directory, name, PEOPLE[name])
    maps = sorted((folder / "annotations" / "pixel-level").glob("*.mat"))
    if not maps:
        raise UserError(f"{folder / 'annotations' / 'pixel-level'}: no maps; expected {PEOPLE[name]}")
    photos = [folder / "photos" / f"{path.stem}.jpg" for path in maps]
    for photo in photos:
        if not photo.is_file():
            raise UserError(f"{photo} is missing, of which there are labels")
    found = [_joints(Path(joints), path.stem) if joints else np.zeros((len(JOINTS), 3), np.float32) for path in maps]
    kept = [number for number, points in enumerate(found) if points is not None]
    skipped = [f"test: image {maps[n].stem}: OpenPose found no person" for n in range(len(maps)) if n not in kept]
    people = People(
        [maps[n].stem for n in kept],
        [photos[n] for n in kept],
        np.stack([found[n] for n in kept]) if kept else np.zeros((0, len(JOINTS), 3), np.float32),
        [PixelLevel(maps[n], found[n].tobytes() if joints else b"") for n in kept],
        np.zeros((0, 2), np.int32),
    )
    return PersonImages(name, {"test": people}, skipped=skipped, source={"joints": bool(joints)})


def _joints(folder: Path, stem: str) -> np.ndarray | None:
    path = openpose_file(folder / stem)
    if path is None:
        raise UserError(f"{folder / stem}.json is missing: the joints of photo {stem}")
    return read_openpose(path)
