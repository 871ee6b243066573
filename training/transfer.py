"""Measure the features of a run or an encoder on another dataset: `python -m training.transfer --run DIR ...`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfthesis.data.options import reader_options
from tfthesis.errors import UserError
from tfthesis.metrics.linear_svm import COST
from training.command_line import Parser
from training.files import replacing

if TYPE_CHECKING:
    import argparse

    from tfthesis.encoders.encoder import Encoder


def parser() -> Parser:
    """Return the options of `python -m training.transfer`."""
    made = Parser(
        prog="python -m training.transfer",
        description="Measure fixed features on another dataset: the accuracy of a linear SVM, or image retrieval.",
        epilog="Exit codes: 0 done, 2 a mistake in what was asked, 130 interrupted.",
    )
    made.add_argument("--run", type=Path, metavar="DIR", help="folder of a finished run whose features are measured")
    made.add_argument("--encoder", metavar="NAME", help="an image encoder instead of a run, such as alexnet")
    made.add_argument("--weights", metavar="FILE", help="weights of --encoder (the encoder's own)")
    made.add_argument(
        "--encoder-option", action="append", default=[], metavar="NAME=VALUE", help="option of it, such as layer=fc6"
    )
    made.add_argument("--list", action="store_true", help="list the datasets with what each reads")
    made.add_argument("--dataset", metavar="NAME", help="a dataset of --list; it decides what is measured")
    made.add_argument("--data", type=Path, metavar="DIR", help="folder that holds the dataset")
    made.add_argument(
        "--reader", action="append", default=[], metavar="NAME=VALUE", help="option of its reader; may be repeated"
    )
    made.add_argument("--cost", type=float, default=COST, metavar="C", help=f"C of the linear SVM ({COST:g})")
    made.add_argument(
        "--no-standardise",
        action="store_true",
        help="give the SVM features as they are (each element has mean 0 and one variance over the training images)",
    )
    made.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="result (transfer-DATASET@FOLDER.json in the run, or ENCODER-... in runs/transfer)",
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; prints the result as JSON and returns the exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        options = parser().parse(argv)
        if options.list:
            print(listing_text())
            return 0
        if (options.run is None) == (options.encoder is None):
            raise UserError("give either --run or --encoder: whose features are measured")
        if options.run and (options.weights or options.encoder_option):
            raise UserError("--weights and --encoder-option belong to --encoder; a run has its own")
        if not options.dataset:
            raise UserError("--dataset is missing; python -m training.transfer --list shows the datasets")
        result = measure(options)
        text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
        path = options.out or _place(options)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(text.encode())
        print(text, end="")
        print(f"wrote {path}", file=sys.stderr)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; features that were computed are kept", file=sys.stderr)
        return 130
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return what parsed options ask for as JSON values.

    Raises:
        UserError: the run, the encoder or the dataset does not open.
    """
    # Imported here, so that --help does not wait for TensorFlow.
    from tfthesis.transfer import transfer
    from training.environment import describe_environment
    from training.results import plain

    encoder = opened(options)
    found = transfer(
        encoder,
        options.dataset,
        options.data,
        reader_options(options.reader, "--reader"),
        cost=options.cost,
        standardise=not options.no_standardise,
        progress=_progress,
    )
    about = encoder.describe()
    return {
        "features": {name: about[name] for name in ("name", "weights", "options", "dimension", "fingerprint")},
        "dataset": found.dataset,
        "protocol": found.evaluation.protocol,
        "scalars": plain(found.evaluation.scalars),
        "environment": describe_environment(),
    }


def opened(options: argparse.Namespace) -> Encoder:
    """Return the run or the encoder that the options name."""
    if options.run is not None:
        from training.run_encoder import RunEncoder

        return RunEncoder(options.run)
    from tfthesis.encoders import open_encoder

    chosen = reader_options(options.encoder_option, "--encoder-option")
    return open_encoder(options.encoder, options.weights, **chosen)


def listing_text() -> str:
    """Return the datasets for a terminal."""
    from tfthesis.data.grouped_images import grouped_names
    from tfthesis.data.labelled_images import labelled_names

    lines = []
    for title, names in (("classification", labelled_names()), ("retrieval", grouped_names())):
        lines += [title, *(f"  {name}  {reads}" for name, reads in names.items())]
    return "\n".join(lines)


def _place(options: argparse.Namespace) -> Path:
    name = options.dataset if options.data is None else f"{options.dataset}@{options.data.resolve().name}"
    if options.run is not None:
        return options.run / f"transfer-{name}.json"
    return Path("runs/transfer") / f"{options.encoder}-{name}.json"


def _progress(done: int, total: int) -> None:
    if done == total or done % 512 == 0:
        print(f"features: {done} of {total}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
