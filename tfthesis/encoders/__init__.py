"""Image and text feature extractors, and the cache of what they computed.

Each file of this package that defines `ENCODERS`, a dict from encoder names to `Encoder` classes, adds its encoders to
the library; no list is kept by hand.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfthesis.errors import UserError, closest

if TYPE_CHECKING:
    from tfthesis.encoders.encoder import Encoder

MODALITIES = ("image", "text")


def _classes() -> dict[str, type[Encoder]]:
    found = {}
    for file in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        module = importlib.import_module(f"{__name__}.{file}")
        found.update(getattr(module, "ENCODERS", {}))
    return found


def encoder_names(modality: str) -> list[str]:
    """Return the names of the encoders for "image" or "text".

    Raises:
        UserError: `modality` is neither.
    """
    if modality not in MODALITIES:
        raise closest(modality, MODALITIES, "modality")
    return sorted(name for name, encoder in _classes().items() if encoder.modality == modality)


def encoder_class(name: str) -> type[Encoder]:
    """Return the class of an encoder.

    Raises:
        UserError: the name is unknown.
    """
    classes = _classes()
    if name not in classes:
        raise closest(name, sorted(classes), "encoder")
    return classes[name]


def refuse_unknown(name: str, options: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise a `UserError` for an option that encoder `name` does not have."""
    for option in options:
        if option not in known:
            raise UserError(f"encoder {name!r} has no option {option!r}; it takes: {', '.join(known) or 'none'}")


def open_encoder(name: str, weights: str | Path | None = None, **options: Any) -> Encoder:
    """Return an encoder with its weights loaded.

    Args:
        name: one of `encoder_names`.
        weights: file or named set of weights; None takes the encoder's own default.
        options: what the encoder accepts beside weights, such as `max_words`.

    Raises:
        UserError: unknown name or option, or weights that are missing or do not fit.
    """
    encoder = encoder_class(name)
    refuse_unknown(name, options, encoder.options)
    return encoder(name, weights, **options)


def reopen(description: Mapping[str, Any]) -> Encoder:
    """Return the encoder that `Encoder.describe` described.

    Raises:
        UserError: the weights or the preprocessing are no longer the same.
    """
    encoder = open_encoder(description["name"], description["weights"], **description["options"])
    if encoder.fingerprint != description["fingerprint"]:
        expected, got = description["fingerprint"][:16], encoder.fingerprint[:16]
        raise UserError(
            f"encoder {encoder.name!r}: its weights {description['weights']!r} or its preprocessing changed: expected "
            f"fingerprint {expected}, got {got}. Restore the weights, or train again."
        )
    return encoder
