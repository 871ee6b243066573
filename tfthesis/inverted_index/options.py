"""What can be chosen of an index and of a search in it. Imports neither numpy nor TensorFlow: recipes name these."""

from __future__ import annotations

import dataclasses
import numbers
from typing import Any

from tfthesis.errors import UserError, closest

#: The inverse document frequency of Eq 4.2 as printed, with the logarithm that it has elsewhere, and left out: Eq 4.1.
IDF = ("ratio", "log", "none")
#: How the numbers of signatures are kept: as float32, as float16, or as int8 with one scale for each signature.
KINDS = ("float32", "float16", "int8")
#: Alpha with which no rank falls to `ranking.NOTHING`: distances are at most 4 for each of at most 63 axes.
LARGEST_ALPHA = 1e9
#: Images of an index, and answers to a query, at most: rows are int32.
MOST_IMAGES = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Scoring:
    """How matches are weighed; numbers may be numpy's.

    Attributes:
        assignments: nearest words of each axis that a patch of the query is assigned to; all their combinations are
            looked up.
        idf: "ratio", N / n_i as in Eq 4.2, "log", its logarithm, or "none", by which all matches count 1 as in Eq 4.1.
        alpha: strength of the signatures in c = exp(-alpha d); 0 leaves them out. The thesis prints exp(alpha d) in Eq
            4.4, by which unlike images would score higher, against its text.
        candidates: images whose signatures are compared, those with the largest sums without signatures and among equal
            ones the first; no others are answered. 0 compares all that share a cell with the query, as the thesis does.

    Raises:
        UserError: a value is none of these.
    """

    assignments: int = 1
    idf: str = "ratio"
    alpha: float = 0.0
    candidates: int = 0

    def __post_init__(self):
        for name, least in (("assignments", 1), ("candidates", 0)):
            object.__setattr__(self, name, whole_number(getattr(self, name), least, name, MOST_IMAGES))
        if self.idf not in IDF:
            raise closest(str(self.idf), IDF, "idf")
        is_number = isinstance(self.alpha, numbers.Real) and not isinstance(self.alpha, bool)
        if not is_number or not 0 <= self.alpha <= LARGEST_ALPHA:
            raise UserError(f"alpha: expected a number from 0 to {LARGEST_ALPHA:g}, got {self.alpha!r}")
        object.__setattr__(self, "alpha", float(self.alpha))


def whole_number(value: Any, least: int, name: str, most: int | None = None) -> int:
    """Return a whole number of Python's or numpy's as one of Python's.

    Raises:
        UserError: it is none, or below `least` or above `most`.
    """
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or value < least or (most is not None and value > most):
        upwards = "" if most is None else f" to {most}"
        raise UserError(f"{name}: expected a whole number from {least}{upwards}, got {value!r}")
    return int(value)


#: The nearest word, the idf of the thesis, no signatures.
PLAIN = Scoring()
