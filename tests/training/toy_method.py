"""A method without a network, for tests of what surrounds methods."""

import dataclasses

from tfthesis.method import Method
from tfthesis.recipe import Recipe, setting


@dataclasses.dataclass(frozen=True)
class ToyRecipe(Recipe):
    """Numbers of the toy."""

    dataset: str = setting("dots", "dataset")
    skill: float = setting(0.5, "how good it is", unit="parts", source="Table 1")
    width: int = setting(4, "how wide it is", unit="units")
    style: str = setting("plain", "how it looks", choices=("plain", "fancy"))


def data(recipe, name, directory):
    """Open nothing."""


def build(recipe, spec):
    """Build nothing."""


def stages(recipe):
    """Return no stage."""
    return ()


def _nothing(*_):
    """Do nothing."""


METHOD = Method(
    title="Toy",
    chapter="Nobody 2000, chapter 1",
    summary="Nothing to see.",
    presets={"thesis": ToyRecipe(width=8), "quick": ToyRecipe(), "tiny": ToyRecipe(width=1)},
    variants={"weak": {"skill": 0.3}},
    data=data,
    build=build,
    stages=stages,
    compile=_nothing,
    evaluate=_nothing,
    galleries=_nothing,
    signatures=_nothing,
    pictures=_nothing,
)
