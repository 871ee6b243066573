"""What a run would do, without training: data, shapes, parameters, steps and memory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tfthesis.method import Data, Stage
from training.execution import split_sizes
from training.report import flat, setting, skipped_items

if TYPE_CHECKING:
    import keras

    from training.request import Request

SHOWN_ITEMS = 10


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """One stage in figures; a preparation has no steps and no optimizer."""

    name: str
    rows: int
    batch_size: int
    epochs: int
    steps: int
    trainable: int
    optimizer: int


def parts(variables: Sequence[Any]) -> dict[str, int]:
    """Return the numbers of weights by the first word of the layers' names."""
    counts: dict[str, int] = {}
    for variable in variables:
        part = variable.path.split("/")[0].split("_")[0]
        counts[part] = counts.get(part, 0) + math.prod(variable.shape)
    return counts


def plan_stages(model: keras.Model, request: Request, data: Data) -> list[StagePlan]:
    """Return each stage with its steps, trained weights and optimizer variables; compiles the model for each."""
    plans = []
    for stage in request.method.stages(request.recipe):
        if not isinstance(stage, Stage):
            plans.append(StagePlan(stage.name, data.size("train"), 0, 0, 0, 0, 0))
            continue
        model.train_only(stage.trainable)
        request.method.compile(model, request.recipe, stage)
        rows = data.size(stage.split)
        slots = [math.prod(v.shape) for optimizer in _optimizers(model) for v in optimizer.variables]
        plans.append(
            StagePlan(
                name=stage.name,
                rows=rows,
                batch_size=stage.batch_size,
                epochs=stage.epochs,
                steps=stage.epochs * math.ceil(rows / stage.batch_size),
                trainable=sum(math.prod(v.shape) for v in model.trainable_variables),
                optimizer=sum(slots),
            )
        )
    return plans


def _optimizers(model: keras.Model) -> list[Any]:
    found = getattr(model, "optimizers", None)
    return list(found.values()) if found else [model.optimizer]


def activations(model: keras.Model) -> int:
    """Return the numbers that one example's forward pass holds; unknown sizes count as one.

    Models within the model count layer by layer; a layer that only a step of the model's own calls has no
    known output and is left out. A layer that holds more than its output has a method `held_numbers`, which tells
    how many an example.
    """
    return sum(_held(layer) for layer in _layers(model))


def _held(layer: Any) -> int:
    from keras import tree

    if hasattr(layer, "held_numbers"):
        return layer.held_numbers()
    outputs = tree.flatten([getattr(layer, "output", [])])
    return sum(math.prod(size or 1 for size in output.shape[1:]) for output in outputs)


def _layers(model: keras.Model) -> Iterator[Any]:
    """Yield the layers of a model and, in their place, those of the models within it."""
    for layer in model.layers:
        yield from _layers(layer) if hasattr(layer, "layers") else [layer]


def memory_bytes(model: keras.Model, plans: Sequence[StagePlan]) -> int:
    """Return about how much the largest stage holds: weights, gradients, optimizer, and activations twice."""
    weights, forward = model.count_params(), activations(model)
    stages = [plan.trainable + plan.optimizer + 2 * forward * plan.batch_size for plan in plans]
    return 4 * (weights + max(stages, default=0))


def dry_run_text(request: Request, data: Data) -> str:
    """Return everything `--dry-run` prints."""
    spec, model = data.spec, request.method.build(request.recipe, data.spec)
    plans = plan_stages(model, request, data)
    rows = ", ".join(f"{split} {size:,}" for split, size in split_sizes(data).items())
    found = data.describe()
    skipped = list(skipped_items(found.pop("skipped", None)))
    inputs = ", ".join(f"{name} {list(shape)}" for name, shape in spec.inputs.items())
    # A composite model has outputs only once it is called.
    shapes = _shapes(getattr(model, "output", []))
    outputs = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()) or "known when the model is called"
    lines = [
        f"{request.method.title}, preset {request.preset}, recipe {request.recipe.hash()}",
        f"rows      {rows}; classes {len(spec.classes)}; skipped items {len(skipped)}",
        *(f"          {item}" for item in skipped[:SHOWN_ITEMS]),
        "data",
        *(f"          {name}: {setting(value)}" for name, value in flat(found)),
        f"inputs    {inputs}",
        f"outputs   {outputs}",
        f"weights   {model.count_params():,} in all",
        *(f"          {part}: {count:,}" for part, count in parts(model.variables).items()),
    ]
    for plan in plans:
        if plan.batch_size:
            lines.append(
                f"stage     {plan.name}: {plan.rows:,} rows, batch {plan.batch_size}, {plan.epochs} epochs, "
                f"{plan.steps:,} steps, trains {plan.trainable:,} weights"
            )
        else:
            lines.append(f"stage     {plan.name}: a preparation on {plan.rows:,} rows, no gradient steps")
    mebibytes = math.ceil(memory_bytes(model, plans) / 2**20)
    lines.append(f"memory    about {mebibytes:,} MiB for model and training, data apart")
    return "\n".join(lines)


def _shapes(outputs: Any) -> dict[str, tuple[int | None, ...]]:
    if isinstance(outputs, dict):
        return {name: tuple(output.shape[1:]) for name, output in outputs.items()}
    listed = outputs if isinstance(outputs, list | tuple) else [outputs]
    return {str(i): tuple(output.shape[1:]) for i, output in enumerate(listed)}
