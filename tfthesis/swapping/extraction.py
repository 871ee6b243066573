"""Joints and body parts of photos, found by TensorFlow Lite models whose files you have.

Made for MoveNet (single pose) and DeepLab or a selfie segmentation; any models of the same inputs and outputs will do.
What is written is what the reader `person_folders` reads. These are stand-ins for OpenPose and the human parser of the
thesis (section 8.2.1): parts are cut out of the person's mask by their distance to limbs, which knows nothing of where
a sleeve or a trouser leg ends. What the network sees of them, drawn poses, masks and heads, can be written too.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import scipy.ndimage
import tensorflow as tf

from tfthesis.data.image_files import image_files
from tfthesis.data.images import decode, read_image, resize
from tfthesis.data.joints import (
    COCO_17,
    DRESSED_PARTS,
    joints_from_points,
    known_limbs,
    nearest_parts,
    openpose_file,
    read_openpose,
    write_openpose,
)
from tfthesis.data.part_maps import PartsFile
from tfthesis.data.person_images import MAPS
from tfthesis.errors import UserError
from tfthesis.swapping.representations import body_mask, draw_pose, head_mask
from tfthesis.whole_files import write_whole

#: Key points below this confidence count as not found, as in MoveNet's own examples.
FOUND_AT = 0.2
#: Class of persons in PASCAL VOC, which DeepLab's published models know.
VOC_PERSON = 15


class _LiteModel:
    """A model of one image; its square input gets the photo with its aspect ratio kept, black beside it."""

    def __init__(self, path: Path):
        if not path.is_file():
            raise UserError(f"no file {path}; expected a TensorFlow Lite model")
        try:
            # TensorFlow 2.20 warns that later versions have it in a package of its own.
            self._interpreter = tf.lite.Interpreter(str(path))
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path}: expected a TensorFlow Lite model: {error}") from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        shape = inputs[0]["shape"].tolist()
        if len(inputs) != 1 or len(shape) != 4 or shape[0] != 1 or shape[1] != shape[2] or shape[3] != 3:
            raise UserError(f"{path}: expected a model of one square image, [1, S, S, 3], got {shape}")
        self.path, self.side = path, shape[1]
        self._input, self._output = inputs[0], outputs[0]
        self.output_shape = outputs[0]["shape"].tolist()

    def run(self, image: np.ndarray) -> tuple[np.ndarray, float]:
        """Return what the model makes of a photo, and how many pixels of the photo one of its input is."""
        height, width = image.shape[:2]
        longer = max(height, width)
        square = np.zeros((longer, longer, 3), np.uint8)
        square[:height, :width] = image
        values = resize(tf.constant(square), self.side, self.side, mode="stretch").numpy()
        kind = self._input["dtype"]
        # Models of integers take pixels, the others shares of white.
        fed = values / 255 if kind == np.float32 else np.round(values)
        self._interpreter.set_tensor(self._input["index"], fed[None].astype(kind))
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output["index"]), longer / self.side


class PoseModel(_LiteModel):
    """A model that finds the 17 key points of COCO, such as MoveNet: y, x (shares of its input) and confidence each.

    Args:
        path: of the `.tflite` file.

    Raises:
        UserError: no such model.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        if int(np.prod(self.output_shape)) != 3 * len(COCO_17):
            raise UserError(
                f"{path}: expected a pose model with the output [1, 1, {len(COCO_17)}, 3], got {self.output_shape}"
            )

    def joints(self, image: np.ndarray, found_at: float = FOUND_AT) -> np.ndarray:
        """Return the joints float32 `[18, 3]` of a photo uint8 `[H, W, 3]`, in its pixels.

        Args:
            image: the photo.
            found_at: key points of a smaller confidence are not found.
        """
        found, scale = self.run(image)
        y, x, confidence = found.reshape(-1, 3).astype(np.float32).T
        confidence = np.where(confidence < found_at, 0, confidence)
        pixels = self.side * scale
        return joints_from_points(np.stack([x * pixels, y * pixels, confidence], axis=1), COCO_17)


class PersonModel(_LiteModel):
    """A model that finds the pixels of a person: a map of classes, such as DeepLab's, or the person's probability.

    Args:
        path: of the `.tflite` file.
        person: the class, of a map of integers.

    Raises:
        UserError: no such model.
    """

    def __init__(self, path: Path, person: int = VOC_PERSON):
        super().__init__(path)
        self.person = person
        if int(np.prod(self.output_shape)) != self.side**2:
            raise UserError(
                f"{path}: expected a segmentation with a value for each pixel, [1, {self.side}, {self.side}], got "
                f"{self.output_shape}"
            )

    def mask(self, image: np.ndarray) -> np.ndarray:
        """Return bool `[H, W]`, True on the person in a photo uint8 `[H, W, 3]`."""
        found, scale = self.run(image)
        found = found.reshape(self.side, self.side)
        mask = found == self.person if np.issubdtype(found.dtype, np.integer) else found > 0.5
        rows, columns = (
            np.minimum((np.arange(length) + 0.5) / scale, self.side - 1).astype(int) for length in image.shape[:2]
        )
        return mask[rows[:, None], columns]


def write_representations(
    folder: Path,
    pose: PoseModel,
    person: PersonModel,
    found_at: float = FOUND_AT,
    progress: Callable[[int, int], None] | None = None,
    *,
    maps: bool = False,
    classes: str = "body",
) -> dict[str, Any]:
    """Write joints and body parts of the photos in `folder/photos` beside them, as `person_folders` reads them.

    Pixels of a person count where they are one piece with a joint. Files that are there stay as they are, and parts are
    cut out by the joints that are there. A photo without a limb, or without a pixel of a person, gets a file of joints
    without a person. Without a photos.csv one is written in which all are the test split; pairs are yours to write.

    Args:
        folder: with the folder photos.
        pose, person: the models.
        found_at: see `PoseModel.joints`.
        progress: is called with the photos done and their number.
        maps: also write what is derived from joints and body parts: drawn poses, masks and heads; see `write_maps`.
        classes: of body parts that are there, a key of `tfthesis.data.part_maps.TABLES`.

    Returns:
        "photos", "written", "without_a_person", "with_maps" (photos of which maps were written now), and "skipped", a
        line for each photo that does not decode.

    Raises:
        UserError: there are no photos, or two that would share a file; joints that are there, or body parts of which
            maps are wanted, hold other things; or body parts would be written among those of other classes.
    """
    photos = image_files(folder / "photos")
    names = [photo.relative_to(folder / "photos").with_suffix("") for photo in photos]
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{folder / 'photos'}: photos of one name would share their joints: {twice[:3]}")
    written, nobody, drawn, skipped, usable = 0, 0, 0, [], []
    for number, (photo, name) in enumerate(zip(photos, names, strict=True), 1):
        parts_file, joints_file = _png(folder, "segments", name), openpose_file(folder / "joints" / name)
        if not (joints_file and parts_file.is_file()):
            try:
                image = decode(tf.constant(read_image(photo))).numpy()
            except (UserError, tf.errors.InvalidArgumentError) as error:
                reason = str(error) if isinstance(error, UserError) else f"{photo}: it does not decode"
                skipped.append(reason)
                continue
            joints = read_openpose(joints_file) if joints_file else pose.joints(image, found_at)
            mask = np.zeros(image.shape[:2], bool) if joints is None else own_pixels(person.mask(image), joints)
            known = joints is not None and bool(known_limbs(joints, DRESSED_PARTS))
            there = known and (parts_file.is_file() or bool(mask.any()))
            if not parts_file.is_file():
                if classes != "body":
                    raise UserError(
                        f"no file {parts_file}, and parts are cut out in the classes 'body', not {classes!r}"
                    )
                parts = nearest_parts(mask, joints, DRESSED_PARTS) if there else np.zeros(mask.shape, np.uint8)
                _write_png(parts_file, parts)
            if joints_file is None:
                joints_file = Path(f"{folder / 'joints' / name}.json")
                joints_file.parent.mkdir(parents=True, exist_ok=True)
                write_openpose(joints_file, joints if there else None)
            nobody += not there
            written += 1
        drawn += maps and write_maps(folder, name, classes)
        usable.append(photo.relative_to(folder / "photos").as_posix())
        if progress is not None:
            progress(number, len(photos))
    if not (folder / "photos.csv").is_file():
        with (folder / "photos.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("photo", "split"), *((name, "test") for name in usable)])
    counts = {"photos": len(photos), "written": written, "without_a_person": nobody, "with_maps": drawn}
    return {**counts, "skipped": skipped}


def write_maps(folder: Path, name: Path, classes: str = "body") -> bool:
    """Write what is derived of a photo into `folder/poses`, `folder/masks` and `folder/heads`; returns whether it did.

    Files that are there are left as they are, since they may have been corrected by hand. A photo without a person,
    which the reader leaves out, gets none.

    Args:
        folder: with the joints and body parts, as `person_folders` has them.
        name: of the photo below the folder photos, without its ending.
        classes: of the body parts, a key of `tfthesis.data.part_maps.TABLES`.

    Raises:
        UserError: joints or body parts are missing or hold other things.
    """
    missing = [kind for kind in MAPS[1:] if not _png(folder, kind, name).is_file()]
    if not missing:
        return False
    joints_file = openpose_file(folder / "joints" / name)
    if joints_file is None:
        raise UserError(f"no file {folder / 'joints' / name}.json, of which maps are drawn")
    joints = read_openpose(joints_file)
    if joints is None or not joints[:, 2].any():
        return False
    segments = PartsFile(_png(folder, "segments", name), classes).read()
    for kind in missing:
        _write_png(_png(folder, kind, name), _drawn(kind, joints, segments))
    return True


def _drawn(kind: str, joints: np.ndarray, segments: np.ndarray) -> np.ndarray:
    if kind == "poses":
        return draw_pose(joints, *segments.shape)
    region = body_mask(segments) if kind == "masks" else head_mask(segments)
    return np.where(region, np.uint8(255), np.uint8(0))


def own_pixels(mask: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Return a mask bool `[H, W]` without the connected pieces in which no joint lies: other persons, and mistakes.

    Args:
        mask: bool `[H, W]`.
        joints: float `[18, 3]` in its pixels.
    """
    pieces, _ = scipy.ndimage.label(mask, np.ones((3, 3)))
    columns, rows = np.floor(joints[joints[:, 2] > 0, :2]).astype(int).T
    inside = (rows >= 0) & (rows < mask.shape[0]) & (columns >= 0) & (columns < mask.shape[1])
    return mask & np.isin(pieces, pieces[rows[inside], columns[inside]])


def _png(folder: Path, kind: str, name: Path) -> Path:
    # A name may have dots of its own.
    return Path(f"{folder / kind / name}.png")


def _write_png(path: Path, values: np.ndarray) -> None:
    """Write a picture and its folder; the file is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    PIL.Image.fromarray(values).save(buffer, "PNG")
    write_whole(path, buffer.getbuffer())
