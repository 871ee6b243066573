"""Train a method from the command line: `python -m training.run --method NAME`; see `training.execution`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from tfthesis.errors import UserError
from tfthesis.processes import allow_processes
from training.command_line import listing, listing_text, recipe_help, run_parser
from training.environment import usable_cores
from training.progress import listening, make_progress
from training.request import Request
from training.run_directory import RunDirectory
from training.stops import Interrupted

USER_ERROR, INTERRUPTED, CLOSED, TERMINATED = 2, 130, 141, 143


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    # TensorFlow's notes on its own start would bury ours.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        options = run_parser().parse(argv)
        if options.list or options.help:
            return _print_list(options) if options.list else _print_help(options)
        signal.signal(signal.SIGTERM, _terminate)
        return _train(options, argv)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return getattr(error, "exit_code", USER_ERROR)
    except KeyboardInterrupt as interruption:
        # A worker that got no signal itself raises what the workers agreed on.
        stopped = interruption if isinstance(interruption, Interrupted) else interruption.__context__
        if isinstance(stopped, Interrupted):
            print(stopped, file=sys.stderr)
            return stopped.exit_code
        print("interrupted; run the same command again to resume", file=sys.stderr)
        return TERMINATED if isinstance(interruption, Terminated) else INTERRUPTED
    except BrokenPipeError:
        # The reader of a listing had enough; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED


def _terminate(*_: Any) -> None:
    raise Terminated


def _print_list(options: argparse.Namespace) -> int:
    entries = listing()
    print(json.dumps({"methods": entries}, indent=2) if options.json else listing_text(entries))
    return 0


def _print_help(options: argparse.Namespace) -> int:
    run_parser().print_help()
    if options.method:
        request = _request(options)
        print()
        print(recipe_help(request.short_name, request.method, request.recipe, request.preset))
    return 0


def _request(options: argparse.Namespace) -> Request:
    if not options.method:
        raise UserError("--method is missing; python -m training.run --list shows the methods")
    return Request.create(
        options.method,
        options.preset,
        options.variant,
        options.set,
        data=options.data,
        data_dir=options.data_dir,
        seed=options.seed,
    )


def _train(options: argparse.Namespace, argv: Sequence[str]) -> int:
    from training.results import result_text

    request = _request(options)
    folder = options.run_dir or request.folder(options.runs_root)

    from training.execution import execute, open_data

    with make_progress(options.quiet) as progress, listening(progress), allow_processes(usable_cores()):
        if options.dry_run:
            from training.dry_run import dry_run_text

            print(dry_run_text(request, open_data(request, progress)))
            return 0
        evaluation = execute(
            request,
            folder,
            progress=progress,
            strategy=options.strategy,
            devices=options.devices,
            allow_change=options.allow_change,
            checkpoint_every=options.checkpoint_every,
            compare_data=options.export_dir is not None,
            command=["python", "-m", "training.run", *argv],
        )
        if evaluation is None:
            return 0
        exported = None
        if options.export_dir:
            from training.export import export_run

            progress.note(f"exporting to {options.export_dir}")
            exported = export_run(folder, options.export_dir, options.export_name, options.index, options.index_split)
    if options.json:
        print(json.dumps({"run": str(folder), "export": exported and str(exported), **evaluation}, indent=2))
    else:
        print(result_text(RunDirectory(folder).read_json("recipe.json"), evaluation, folder))
        if exported:
            print(f"export: {exported}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
