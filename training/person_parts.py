"""Find joints and body parts in photos of persons: `python -m training.person_parts --data DIR --pose FILE ...`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tfthesis.errors import UserError
from training.command_line import Parser


def parser() -> Parser:
    """Return the options of `python -m training.person_parts`."""
    made = Parser(
        prog="python -m training.person_parts",
        description="Write joints and body parts of the photos in DIR/photos as the dataset person_folders has them, "
        "found by TensorFlow Lite models. Parts are cut out of the person's mask by their distance to limbs.",
        epilog="Exit codes: 0 done, 2 a mistake in what was asked, 130 interrupted (photos that are done are kept).",
    )
    made.add_argument("--data", type=Path, metavar="DIR", required=True, help="folder that holds the folder photos")
    made.add_argument(
        "--pose", type=Path, metavar="FILE", required=True, help="model of the 17 key points of COCO, such as MoveNet"
    )
    made.add_argument(
        "--person",
        type=Path,
        metavar="FILE",
        required=True,
        help="model of classes, such as DeepLab, or of the person's probability at each pixel",
    )
    made.add_argument(
        "--person-class", type=int, default=15, metavar="N", help="the class of persons (15, that of PASCAL VOC)"
    )
    made.add_argument(
        "--found-at", type=float, default=0.2, metavar="P", help="confidence from which a key point was found (0.2)"
    )
    made.add_argument(
        "--maps",
        action="store_true",
        help="also write what is derived from joints and parts into poses, masks and heads, to look at or to correct",
    )
    made.add_argument(
        "--classes",
        choices=["body", "lip"],
        default="body",
        help="of body parts that are there already: the five and background (the default), or Look into Person's 20",
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; prints the counts as JSON and returns the exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        options = parser().parse(argv)
        # Imported here, so that --help does not wait for TensorFlow.
        from tfthesis.swapping.extraction import PersonModel, PoseModel, write_representations

        if not 0 < options.found_at <= 1:
            raise UserError(f"--found-at: expected a confidence above 0 and up to 1, got {options.found_at}")
        models = PoseModel(options.pose), PersonModel(options.person, options.person_class)
        found = write_representations(
            options.data, *models, options.found_at, _progress, maps=options.maps, classes=options.classes
        )
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    print(json.dumps(found, indent=1, ensure_ascii=False))
    return 0


def _progress(done: int, total: int) -> None:
    if done == total or done % 50 == 0:
        print(f"photos: {done} of {total}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
