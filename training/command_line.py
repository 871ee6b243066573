"""The words of the command line: options, `--set FIELD=VALUE`, `--list` and the help of a method.

Nothing here imports TensorFlow, so that listing and help answer at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import textwrap
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfthesis.discovery import all_methods
from tfthesis.errors import UserError, closest
from tfthesis.method import SPLITS, Method
from tfthesis.recipe import Recipe, check_type

STRATEGIES = ("one", "mirrored", "multi_worker")
INDEX_KINDS = ("exact", "scann")
WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are a `UserError` that names the nearest option or choice."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)
        self.choices: dict[str, Sequence[str]] = {}

    def add_choice(self, option: str, choices: Sequence[str], **kwargs: Any) -> None:
        """Add an option that takes one of `choices`."""
        self.choices[option] = choices
        self.add_argument(option, metavar="|".join(choices), **kwargs)

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Return the parsed options.

        Raises:
            UserError: an option or a choice is unknown, or a value is missing or of the wrong type.
        """
        options, rest = self.parse_known_args(argv)
        if rest:
            known = [string for action in self._actions for string in action.option_strings]
            raise closest(rest[0].split("=")[0], known, "option")
        for option, choices in self.choices.items():
            value = getattr(options, option.lstrip("-").replace("-", "_"))
            if value is not None and value not in choices:
                raise closest(value, choices, f"value of {option}:")
        return options

    def error(self, message: str) -> typing.NoReturn:
        """Raise what argparse would print."""
        raise UserError(f"{message}. See --help.")


def add_export_options(parser: Parser, name_option: str) -> None:
    """Add how an export is named and searched; shared by `training.run` and `training.export`."""
    parser.add_argument(name_option, metavar="NAME", help="name to serve under (<method>_<preset>[_<variant>])")
    parser.add_choice("--index", INDEX_KINDS, default="exact", help="neighbour search of the export (exact)")
    parser.add_choice("--index-split", SPLITS, default="test", help="split whose items a served search finds (test)")


def run_parser() -> Parser:
    """Return the options of `python -m training.run`."""
    parser = Parser(
        prog="python -m training.run",
        description="Train a method, evaluate it on the test split, and write a report.",
        add_help=False,
        epilog="Exit codes: 0 done, 2 a mistake in what was asked, 3 stopped by NaN, 75 lost a worker, "
        "130 and 143 interrupted. Run the same command again to resume.",
    )
    parser.add_argument("--help", "-h", action="store_true", help="this text; with --method also every recipe field")
    parser.add_argument("--list", action="store_true", help="list methods with their presets and variants")
    parser.add_argument("--json", action="store_true", help="print --list and results as JSON")
    parser.add_argument("--method", metavar="NAME", help="a method of --list, or the path of a Python file")
    parser.add_argument("--preset", default="quick", metavar="NAME", help="named recipe to start from (quick)")
    parser.add_argument("--variant", metavar="NAME", help="named baseline or ablation of the method")
    parser.add_argument("--data", metavar="NAME", help="dataset instead of the recipe's")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="folder that holds the dataset")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of weights, order and dropout (0)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change a recipe field; may be repeated"
    )
    parser.add_choice("--strategy", STRATEGIES, default="one", help="devices that share each batch (one)")
    parser.add_argument("--devices", type=at_least_one, metavar="N", help="devices of --strategy mirrored (all)")
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help="folder of this run (named below --runs-root)")
    parser.add_argument("--runs-root", type=Path, default=Path("runs"), metavar="DIR", help="folder of all runs (runs)")
    parser.add_argument("--export-dir", type=Path, metavar="DIR", help="also export for serving, such as saved_models")
    add_export_options(parser, "--export-name")
    parser.add_argument("--dry-run", action="store_true", help="open the data and count, train nothing")
    parser.add_argument("--allow-change", action="store_true", help="resume although recipe or data changed")
    parser.add_argument(
        "--checkpoint-every",
        type=at_least_one,
        metavar="STEPS",
        help="steps between checkpoints beside those at the end of each epoch (one a minute)",
    )
    parser.add_argument("--quiet", action="store_true", help="print only results and errors")
    return parser


def at_least_one(text: str) -> int:
    """Return a count from an option.

    Raises:
        argparse.ArgumentTypeError: it is below one; `ValueError` if it is no whole number.
    """
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, got {text}")
    return int(text)


def overrides(recipe: Recipe, assignments: Sequence[str]) -> dict[str, Any]:
    """Return `FIELD=VALUE` strings as typed values of the fields of `recipe`.

    Raises:
        UserError: no `=`, an unknown field, or a value that is not of the field's type.
    """
    hints = typing.get_type_hints(type(recipe))
    names = [field.name for field in dataclasses.fields(recipe)]
    changes: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UserError(f"--set {assignment!r}: expected FIELD=VALUE, such as --set {names[0]}=...")
        if name not in names:
            raise closest(name, names, "recipe field")
        try:
            changes[name] = check_type(typed(text, hints[name]), hints[name], name)
        except ValueError as error:
            raise UserError(
                f"--set {assignment}: recipe field {name!r} is {type_name(hints[name])}, "
                f"now {getattr(recipe, name)!r}; {text!r} is not ({error})"
            ) from error
    return changes


def typed(text: str, expected: Any) -> Any:
    """Return `text` as the annotated type `expected`; tuples are separated by commas.

    Raises:
        ValueError: the text is no such value.
    """
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in (typing.Union, types.UnionType):
        if text.lower() == "none" and type(None) in arguments:
            return None
        return typed(text, next(argument for argument in arguments if argument is not type(None)))
    if origin is tuple:
        if text.lstrip().startswith(("[", "(")):
            return tuple(json.loads(text.replace("(", "[").replace(")", "]")))
        parts = [part.strip() for part in text.split(",") if part.strip()]
        inner = [arguments[0]] * len(parts) if arguments[-1] is Ellipsis else arguments
        if len(inner) != len(parts):
            raise ValueError(f"expected {len(inner)} values separated by commas")
        return tuple(map(typed, parts, inner))
    if expected is bool:
        if text.lower() not in WORDS:
            raise ValueError("expected true or false")
        return WORDS[text.lower()]
    if expected in (int, float, str):
        return expected(text)
    return json.loads(text)


def type_name(expected: Any) -> str:
    """Return how an annotation reads in help texts."""
    return expected.__name__ if isinstance(expected, type) and typing.get_origin(expected) is None else str(expected)


def listing() -> list[dict[str, Any]]:
    """Return every shipped method for `--list`; a broken file has `error` instead of the rest."""
    entries = []
    for name, method in all_methods():
        if isinstance(method, UserError):
            entries.append({"name": name, "error": str(method)})
            continue
        variants = {variant: dict(changes) for variant, changes in method.variants.items()}
        entries.append(
            {
                "name": name,
                "title": method.title,
                "chapter": method.chapter,
                "summary": method.summary,
                "presets": {preset: recipe.dataset for preset, recipe in method.presets.items()},
                "variants": variants,
            }
        )
    return entries


def listing_text(entries: Sequence[dict[str, Any]]) -> str:
    """Return `listing` for a terminal."""
    lines = []
    for entry in entries:
        if "error" in entry:
            lines += [f"{entry['name']}  BROKEN: {entry['error']}", ""]
            continue
        lines += [f"{entry['name']}  {entry['title']} ({entry['chapter']})", f"    {entry['summary']}"]
        presets = ", ".join(f"{name} ({dataset})" for name, dataset in entry["presets"].items())
        lines.append(f"    presets:  {presets}")
        for i, (name, changes) in enumerate(entry["variants"].items()):
            head = "variants: " if i == 0 else " " * 10
            lines.append(f"    {head}{name}  {', '.join(f'{key}={value}' for key, value in changes.items())}")
        lines.append("")
    return "\n".join([*lines, "python -m training.run --method NAME --help shows every field of a recipe."])


def recipe_help(name: str, method: Method, recipe: Recipe, preset: str) -> str:
    """Return every field of `recipe` with its value, unit, source and choices."""
    hints = typing.get_type_hints(type(recipe))
    width, indent = min(shutil.get_terminal_size().columns, 120), " " * 6
    lines = [
        f"{name}: {method.title} ({method.chapter})",
        method.summary,
        "",
        f"presets: {', '.join(method.presets)}",
        f"variants: {', '.join(method.variants) or 'none'}",
        "",
        f"Fields of the recipe with their values in preset {preset!r}; change them with --set FIELD=VALUE:",
    ]
    for field in dataclasses.fields(recipe):
        about = field.metadata
        unit = f" {about['unit']}" if about.get("unit") else ""
        value = shown(getattr(recipe, field.name)) or "(empty)"
        lines.append(f"  {field.name} = {value}{unit}  ({type_name(hints[field.name])})")
        meaning = [about.get("help", "").rstrip(".")]
        if about.get("choices"):
            meaning.append(f"Choices: {', '.join(map(str, about['choices']))}")
        meaning.append(f"Source: {method.source(field.name, getattr(recipe, field.name))}")
        lines.append(textwrap.fill(f"{'. '.join(meaning)}.", width, initial_indent=indent, subsequent_indent=indent))
    return "\n".join(lines)


def shown(value: Any) -> str:
    """Return a recipe value as `--set` takes it."""
    if isinstance(value, tuple | list) and not any(isinstance(item, tuple | list) for item in value):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
