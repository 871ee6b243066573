"""Five annotators who describe a scene, each with their own words, interests and blind spots.

They agree on the largest object and differ in the rest, as the sentences of Liu 2018, Figure 7.1 do: one
lists, one says where things are, one is terse, one begins with the background, one cares for patterns.
Relations ("left of") are seen from the viewer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tfthesis.data.scenes.scene import WORDS, Scene, SceneObject

SMALL, LARGE = 0.17, 0.24


@dataclasses.dataclass(frozen=True)
class Annotator:
    """One way of describing.

    Attributes:
        templates: sentences with the fields {things}, {relation} and {place}; the choice between them is random.
        mentions: smallest and largest number of objects mentioned.
        main_first: keep the largest object always, before a random choice of the others.
        colour, texture, size, litter: share of the chances that are taken to mention each.
        nouns, colours, textures, places: the annotator's own words; others are called by their plain name.
    """

    templates: Sequence[str]
    mentions: tuple[int, int]
    main_first: bool = True
    colour: float = 0.0
    texture: float = 0.0
    size: float = 0.0
    litter: float = 0.0
    nouns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    colours: Mapping[str, str] = dataclasses.field(default_factory=dict)
    textures: Mapping[str, str] = dataclasses.field(default_factory=dict)
    places: Mapping[str, str] = dataclasses.field(default_factory=dict)


PLACES = {
    "meadow": "on the grass",
    "beach": "on the beach",
    "sea": "in the sea",
    "sky": "in the sky",
    "night": "at night",
    "snow": "in the snow",
    "wall": "by a brick wall",
    "floor": "on a wooden floor",
}

ANNOTATORS: tuple[Annotator, ...] = (
    Annotator(
        templates=("{things} {place} .", "there is {things} ."),
        mentions=(2, 4),
        colour=0.9,
        texture=0.2,
    ),
    Annotator(
        templates=("{relation} .", "{relation} {place} ."),
        mentions=(2, 2),
        colour=0.8,
        size=0.6,
        nouns={"car": "automobile", "house": "home", "boat": "ship", "cup": "mug", "rocket": "spaceship"},
        colours={"purple": "violet", "pink": "rose"},
    ),
    Annotator(
        templates=("{things}", "{things} {place}"),
        mentions=(1, 2),
        colour=1.0,
        texture=0.6,
        size=0.3,
        nouns={"flower": "blossom", "umbrella": "parasol", "car": "vehicle", "mushroom": "fungus"},
        colours={"red": "crimson", "yellow": "golden", "white": "pale", "blue": "navy"},
        textures={"striped": "lined", "dotted": "spotted", "checked": "plaid"},
    ),
    Annotator(
        templates=("{place} one can see {things} .", "a picture taken {place} with {things} ."),
        mentions=(2, 3),
        colour=0.6,
        size=0.3,
        litter=0.7,
        nouns={"car": "vehicle", "boat": "sailboat", "butterfly": "insect", "house": "building"},
        places={
            "meadow": "in a green field",
            "floor": "on the boards of a table",
            "wall": "in front of a wall",
            "sea": "on the water",
            "beach": "on the sand by the ocean",
            "night": "under the moon and stars",
            "sky": "among the clouds",
            "snow": "on a winter day",
        },
    ),
    Annotator(
        templates=("someone drew {things} .", "{things} {place}"),
        mentions=(2, 3),
        main_first=False,
        colour=0.7,
        texture=0.95,
        litter=0.3,
        nouns={"ball": "sphere", "house": "cottage", "bird": "animal", "fish": "animal", "cup": "mug"},
        colours={"red": "scarlet", "purple": "violet", "green": "emerald"},
        textures={"checked": "checkered", "dotted": "spotted", "plain": "simple"},
        places={"meadow": "on a lawn", "beach": "on a sandy shore", "snow": "on white snow", "wall": "on bricks"},
    ),
)


def describe(scene: Scene) -> tuple[str, ...]:
    """Return one sentence by each annotator, in the order of `ANNOTATORS`."""
    random = scene.random(WORDS)
    return tuple(_sentence(annotator, scene, random) for annotator in ANNOTATORS)


def _sentence(annotator: Annotator, scene: Scene, random: np.random.Generator) -> str:
    template = annotator.templates[random.integers(len(annotator.templates))]
    chosen = _choose(annotator, scene.objects, random)
    phrases = [_phrase(annotator, item, random) for item in chosen]
    relation = phrases[0] if len(chosen) == 1 else f"{phrases[0]} {_relation(*chosen[:2])} {phrases[1]}"
    things = _listed(phrases)
    if scene.litter and random.random() < annotator.litter:
        things, relation = (f"{text} and some {scene.litter}" for text in (things, relation))
    place = annotator.places.get(scene.background, PLACES[scene.background])
    return template.format(things=things, relation=relation, place=place)


def _choose(annotator: Annotator, objects: Sequence[SceneObject], random: np.random.Generator) -> list[SceneObject]:
    low, high = (min(count, len(objects)) for count in annotator.mentions)
    count = int(random.integers(low, high + 1))
    order = random.permutation(len(objects))
    if annotator.main_first:
        order = [0, *(index for index in order if index)]
    return [objects[index] for index in order[:count]]


def _phrase(annotator: Annotator, item: SceneObject, random: np.random.Generator) -> str:
    """Return a noun with article and those properties that this annotator mentions now."""
    said_size, said_colour, said_texture = random.random(3) < (annotator.size, annotator.colour, annotator.texture)
    words = []
    if said_size and not SMALL < item.radius < LARGE:
        words.append("small" if item.radius <= SMALL else "large")
    if said_colour:
        words.append(annotator.colours.get(item.colour, item.colour))
    texture = annotator.textures.get(item.texture, "" if item.texture == "plain" else item.texture)
    if said_texture and texture:
        words.append(texture)
    words.append(annotator.nouns.get(item.kind, item.kind))
    return " ".join(["an" if words[0][0] in "aeiou" else "a", *words])


def _relation(first: SceneObject, second: SceneObject) -> str:
    right, down = (b - a for a, b in zip(first.centre, second.centre, strict=True))
    if abs(right) >= abs(down):
        return "left of" if right > 0 else "right of"
    return "above" if down > 0 else "below"


def _listed(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{' , '.join(phrases[:-1])} and {phrases[-1]}"
