"""What can be chosen of an index and of a search in it. Imports neither numpy nor TensorFlow: recipes name these."""

from __future__ import annotations

import dataclasses

from tfthesis.errors import UserError, closest

#: The inverse document frequency of Eq 4.2 as printed, with the logarithm that it has elsewhere, and left out: Eq 4.1.
IDF = ("ratio", "log", "none")
#: How the numbers of signatures are kept: as float32, as float16, or as int8 with one scale for each signature.
KINDS = ("float32", "float16", "int8")
#: Alpha with which no rank falls to `ranking.NOTHING`: distances are at most 4 for each of at most 63 axes.
LARGEST_ALPHA = 1e9


@dataclasses.dataclass(frozen=True)
class Scoring:
    """How matches are weighed.

    Attributes:
        assignments: nearest words of each axis that a patch of the query is assigned to; all their combinations are
            looked up.
        idf: "ratio", N / n_i as in Eq 4.2, "log", its logarithm, or "none", by which all matches count 1 as in Eq 4.1.
        alpha: strength of the signatures in c = exp(-alpha d); 0 leaves them out. The thesis prints exp(alpha d) in Eq
            4.4, by which unlike images would score higher, against its text.
        candidates: images whose signatures are compared, those with the largest sums without signatures and among equal
            ones the first; no others are answered. 0 compares all that share a cell with the query, as the thesis does.
    """

    assignments: int = 1
    idf: str = "ratio"
    alpha: float = 0.0
    candidates: int = 0

    def __post_init__(self):
        if self.idf not in IDF:
            raise closest(self.idf, IDF, "idf")
        if not 0 <= self.alpha <= LARGEST_ALPHA:
            raise UserError(f"alpha: expected a number from 0 to {LARGEST_ALPHA:g}, got {self.alpha}")
        if isinstance(self.candidates, bool) or not isinstance(self.candidates, int) or self.candidates < 0:
            raise UserError(f"candidates: expected a whole number from 0, got {self.candidates!r}")


#: The nearest word, the idf of the thesis, no signatures.
PLAIN = Scoring()
