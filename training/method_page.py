"""The page of a method, made of its descriptor, its recipe fields and its docstrings."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any

from tfthesis.method import PRESETS, Method, Stage
from tfthesis.recipe import Recipe
from training.command_line import shown

FUNCTIONS = ("data", "build", "stages", "compile", "evaluate", "galleries", "signatures", "pictures")
SHOWN_PRESETS = ("thesis", "quick")


def method_page(name: str, method: Method, tables: Sequence[str]) -> str:
    """Return the Markdown page of method `name`.

    Args:
        name: as on the command line.
        method: its descriptor.
        tables: Markdown of the editions of its tables that were run.
    """
    module = inspect.getmodule(method.build)
    about = (inspect.getdoc(module) or method.summary).partition("\n")[2].strip()
    parts = [
        f"# {method.title}",
        f"{method.chapter}. {method.summary}",
        about,
        "## Run it",
        f"```bash\npython -m training.run --method {name}\n"
        f"python -m training.run --method {name} --help      # every field below\n"
        f"python -m training.run --method {name} --preset thesis --data-dir DIR\n```",
        "## Functions",
        _functions(method),
        "## Stages",
        "Of preset `thesis`:",
        _stages(method),
        "## Variants",
        _variants(method),
        "## Recipe",
        _recipe(method),
        "## Results",
        *(tables or ["No table of this method has been run yet: `python -m training.reproduce --list`."]),
    ]
    return "\n\n".join(part.rstrip() for part in parts if part) + "\n"


def _functions(method: Method) -> str:
    """Return what each function of the contract does here: the first paragraph of its docstring."""
    lines = []
    for name in FUNCTIONS:
        first = (inspect.getdoc(getattr(method, name)) or "").split("\n\n")[0]
        lines.append(f"- **{name}**: {' '.join(first.split())}")
    return "\n".join(lines)


def _stages(method: Method) -> str:
    rows = []
    for stage in method.stages(method.presets[PRESETS[0]]):
        if isinstance(stage, Stage):
            losses = " + ".join(f"{weight:g} {part}" for part, weight in stage.loss_weights.items())
            trained = ", ".join(f"`{prefix}*`" if prefix else "everything" for prefix in stage.trainable)
            decay = f", falling over the last {stage.decay_epochs} epochs" if stage.decay_epochs else ""
            figures = [str(stage.epochs), str(stage.batch_size), f"{stage.learning_rate:g}{decay}"]
            chosen = (stage.select or "the method's score") if stage.keep_best else "the end of the stage"
            rows.append([stage.name, *figures, losses, trained, chosen])
        else:
            rows.append([stage.name, "", "", "", "no gradient", "", ""])
    header = ["stage", "epochs", "batch size", "learning rate", "loss", "layers that train", "weights chosen by"]
    return _grid(header, rows)


def _variants(method: Method) -> str:
    rows = [
        [f"`{name}`", ", ".join(f"`{field}={shown(value)}`" for field, value in changes.items())]
        for name, changes in method.variants.items()
    ]
    return _grid(["variant", "changes"], rows) if rows else "None."


def _recipe(method: Method) -> str:
    """Return every field with its meaning, source and value in two presets, and what other presets change."""
    presets = [method.presets[name] for name in SHOWN_PRESETS]
    rows = []
    for field in dataclasses.fields(presets[0]):
        about = field.metadata
        choices = f" Choices: {', '.join(map(str, about['choices']))}." if about.get("choices") else ""
        unit = f" ({about['unit']})" if about.get("unit") else ""
        values = [_value(recipe, field.name) for recipe in presets]
        meaning = about.get("help", "").rstrip(".") + f"{unit}.{choices}"
        rows.append([f"`{field.name}`", meaning, *values, about.get("source", "")])
    text = _grid(["field", "meaning", *SHOWN_PRESETS, "source of `thesis`"], rows)
    for name, recipe in method.presets.items():
        if name not in SHOWN_PRESETS:
            text += f"\n\n{_changes(name, recipe, method)}"
    return text


def _changes(name: str, recipe: Recipe, method: Method) -> str:
    """Return how a preset differs from the nearer of the two that are shown in full."""

    def differences(other: Recipe) -> list[str]:
        names = [field.name for field in dataclasses.fields(recipe)]
        return [field for field in names if getattr(recipe, field) != getattr(other, field, None)]

    near = min(SHOWN_PRESETS, key=lambda shown_name: len(differences(method.presets[shown_name])))
    changes = ", ".join(f"`{field}={shown(getattr(recipe, field))}`" for field in differences(method.presets[near]))
    return f"Preset `{name}` is `{near}` with {changes or 'no change'}."


def _value(recipe: Recipe, field: str) -> str:
    text = shown(getattr(recipe, field))
    return f"`{text}`" if text else "empty"


def _grid(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(text).replace("|", "\\|") for text in line) + " |" for line in lines)
