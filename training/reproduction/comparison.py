"""What the runs of an edition say: a summary for every cell and a verdict on every claimed direction."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfthesis.errors import UserError
from training.reproduction.edition import Edition
from training.reproduction.pictures import pictures_of
from training.reproduction.store import Record, ResultStore
from training.reproduction.table import Claim, Column, Row
from training.statistics import Comparison, ItemScores, Summary, Verdict, combine, compare, summarize

OWNER = "owner"
"""Sample that holds, for every caption, the number of its image; images are drawn with their captions."""
TOLERANCE = 0.01


@dataclasses.dataclass(frozen=True)
class RowResult:
    """The runs of a row by seed, and its figures by scalar and seed; of a curve, means over `epochs` epochs.

    `pictures` are those of its run with the first seed, by name.
    """

    row: Row
    records: Mapping[int, Record]
    values: Mapping[str, Mapping[int, float]]
    epochs: int = 0
    pictures: Mapping[str, Path] = dataclasses.field(default_factory=dict)

    def summary(self, scalar: str) -> Summary | None:
        """Return mean and interval of a column; None without a run that has it."""
        found = self.values.get(scalar)
        if not found:
            return None
        return summarize(list(found.values()) if self.row.varies else list(found.values())[:1])


@dataclasses.dataclass(frozen=True)
class ClaimResult:
    """A claim in one column.

    Attributes:
        claim, column: what is claimed.
        comparisons: by the row that is to be beaten; rows without common seeds are missing.
        verdict: over all of them.
        printed: difference in the thesis by its dataset, smallest over the rows to be beaten; positive
            where the claim holds.
        remark: why nothing could be compared, or why the comparison does not count, if so; for curves, in how many
            epochs the claim holds.
    """

    claim: Claim
    column: Column
    comparisons: Mapping[str, Comparison]
    verdict: Verdict
    printed: Mapping[str, float]
    remark: str = ""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """An edition with the figures of its rows and the verdicts on its claims."""

    edition: Edition
    rows: Sequence[RowResult]
    claims: Sequence[ClaimResult]

    @property
    def columns(self) -> list[Column]:
        """Columns that at least one row has a figure for."""
        return [c for c in self.edition.table.columns if any(c.scalar in row.values for row in self.rows)]

    @property
    def complete(self) -> bool:
        """Whether every row has all its seeds."""
        return all(set(self.edition.seeds) <= set(row.records) for row in self.rows if self.edition.makes(row.row))


def assess(edition: Edition, store: ResultStore) -> Outcome:
    """Return what the stored runs of `edition` say.

    Raises:
        UserError: per-item results do not give the figure that was recorded beside them.
    """
    records = {row.label: _records(edition, row, store) for row in edition.table.rows}
    epochs = _common_epochs(edition, [record for found in records.values() for record in found.values()])
    rows = [
        dataclasses.replace(
            _row_result(edition, row, records[row.label], epochs), pictures=pictures_of(edition, row, store)
        )
        for row in edition.table.rows
    ]
    by_label = {result.row.label: result for result in rows}
    table = edition.table
    claims = [
        _claim_result(edition, claim, table.column(scalar), by_label, store)
        for claim in table.claims
        for scalar in claim.columns
    ]
    return Outcome(edition, rows, _gated(claims))


def _gated(claims: Sequence[ClaimResult]) -> list[ClaimResult]:
    """Return the claims, undecided in the columns of which a gate does not say that they can rank."""
    shut = {c.column.scalar for c in claims if c.claim.gate is not None and c.comparisons and not _open(c)}
    return [
        dataclasses.replace(c, verdict=Verdict.UNDECIDED, remark="the figure cannot rank here")
        if c.column.scalar in shut and c.comparisons and c.claim.gate is None
        else c
        for c in claims
    ]


def _open(gate: ClaimResult) -> bool:
    """Return whether all differences are found to be as large as a gate asks for."""
    return gate.verdict is Verdict.YES and all(c.lowest > gate.claim.gate for c in gate.comparisons.values())


def _records(edition: Edition, row: Row, store: ResultStore) -> dict[int, Record]:
    """Return the stored runs of a row by seed."""
    records: dict[int, Record] = {}
    for planned in edition.planned(row):
        record = store.find(planned)
        if record is not None:
            # A result that no seed enters stands for every seed.
            records.update(dict.fromkeys([planned.request.seed] if row.varies else edition.seeds, record))
    return records


def _common_epochs(edition: Edition, records: Sequence[Record]) -> int:
    """Return the epochs that the curves of all runs have, so that means over them compare like with like."""
    if edition.table.kind != "curve":
        return 0
    lengths = [len(curve(edition, column, record)) for column in edition.table.columns for record in records]
    return min(filter(None, lengths), default=0)


def _row_result(edition: Edition, row: Row, records: Mapping[int, Record], epochs: int) -> RowResult:
    values: dict[str, dict[int, float]] = {}
    for column in edition.table.columns:
        found = {seed: _figure(edition, row, column, record, epochs) for seed, record in records.items()}
        found = {seed: value for seed, value in found.items() if value is not None}
        if found:
            values[column.scalar] = found
    return RowResult(row, records, values, epochs)


def _figure(edition: Edition, row: Row, column: Column, record: Record, epochs: int) -> float | None:
    if edition.table.kind == "curve":
        points = curve(edition, column, record)
        return float(np.mean(points[:epochs])) if points else None
    if column.scalar == "seconds":
        # Runs that shared the cores say little about their own time.
        return record.seconds if record.kind == "run" and record.jobs == 1 else None
    if column.scalar.startswith("val_"):
        return _selected(record, column.scalar)
    return record.scalars.get(row.named(column.scalar))


def _selected(record: Record, name: str) -> float | None:
    """Return the validation figure `name` of the epoch whose weights the last stage, and so the run, ended with."""
    epochs = record.epochs
    if not epochs.get("selection") or name not in epochs:
        return None
    last = [i for i, stage in enumerate(epochs["stage"]) if stage == epochs["stage"][-1]]
    scored = [i for i in last if epochs["selection"][i] is not None]
    # Equal scores: the loop keeps the first.
    return epochs[name][max(scored, key=lambda i: (epochs["selection"][i], -i))] if scored else None


def curve(edition: Edition, column: Column, record: Record) -> list[float]:
    """Return the validation figures of `column` over the epochs of the table's stages."""
    stages, values = record.epochs.get("stage", []), record.epochs.get(f"val_{column.scalar}", [])
    wanted = edition.table.stages
    return [
        value
        for stage, value in zip(stages, values, strict=False)
        if value is not None and (not wanted or stage in wanted)
    ]


def _claim_result(
    edition: Edition, claim: Claim, column: Column, rows: Mapping[str, RowResult], store: ResultStore
) -> ClaimResult:
    printed = _printed(edition, claim, column)
    comparisons: dict[str, Comparison] = {}
    for label in claim.than:
        found = _comparison(edition, column, rows[claim.better], rows[label], store)
        if isinstance(found, str):
            return ClaimResult(claim, column, {}, Verdict.UNDECIDED, printed, found)
        comparisons[label] = found
    remark = _epochs_ahead(edition, claim, column, rows) if edition.table.kind == "curve" else ""
    return ClaimResult(claim, column, comparisons, combine(list(comparisons.values())), printed, remark)


def _epochs_ahead(edition: Edition, claim: Claim, column: Column, rows: Mapping[str, RowResult]) -> str:
    """Return in how many of the common epochs the mean curve of the better row leads all others."""
    means = []
    for label in (claim.better, *claim.than):
        curves = [curve(edition, column, record)[: rows[label].epochs] for record in rows[label].records.values()]
        means.append(np.mean([points for points in curves if points], axis=0))
    sign = -1 if column.better == "smaller" else 1
    ahead = np.all([sign * means[0] > sign * other for other in means[1:]], axis=0)
    return f"ahead in {int(ahead.sum())} of {len(ahead)} epochs"


def _comparison(
    edition: Edition, column: Column, left: RowResult, right: RowResult, store: ResultStore
) -> Comparison | str:
    """Return the comparison of two rows over their common seeds, or why there is none."""
    names = f"{left.row.label} and {right.row.label}"
    seeds = sorted(set(left.values.get(column.scalar, {})) & set(right.values.get(column.scalar, {})))
    if not seeds:
        return f"no runs of both {names}"
    pairs = [(left.records[seed], right.records[seed]) for seed in seeds]
    if any(a.fingerprint != b.fingerprint for a, b in pairs):
        return f"{names} were run on different data"
    if all(len({row.values[column.scalar][seed] for seed in seeds}) == 1 for row in (left, right)):
        # What no seed moves was measured once.
        seeds, pairs = seeds[:1], pairs[:1]
    samples = [_grouped_alike(_samples(left.row, store, a), _samples(right.row, store, b)) for a, b in pairs]
    left_items, right_items = (
        _items(edition, row, column, records, kept)
        for row, records, kept in zip(
            (left.row, right.row), zip(*pairs, strict=True), zip(*samples, strict=True), strict=True
        )
    )
    return compare(
        [left.values[column.scalar][seed] for seed in seeds],
        [right.values[column.scalar][seed] for seed in seeds],
        larger_is_better=column.better != "smaller",
        left_items=left_items,
        right_items=right_items,
    )


def _samples(row: Row, store: ResultStore, record: Record) -> dict[str, np.ndarray]:
    """Return the samples of the row's measurement by their plain names, and the owners."""
    found = store.samples(record)
    if not row.measure:
        return found
    head = row.named("")
    own = {name.removeprefix(head): array for name, array in found.items() if name.startswith(head)}
    return {OWNER: found[OWNER], **own} if OWNER in found else own


def _grouped_alike(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], ...]:
    """Return the samples of two runs on the same data: if one does not say whose its captions are, the other does."""
    owner = left.get(OWNER, right.get(OWNER))
    return (left, right) if owner is None else ({OWNER: owner, **left}, {OWNER: owner, **right})


def _printed(edition: Edition, claim: Claim, column: Column) -> dict[str, float]:
    """Return by dataset of the thesis how far the printed figures bear the claim out."""
    sign, found = (-1 if column.better == "smaller" else 1), {}
    for dataset, rows in edition.table.printed.items():
        figures = [rows.get(label, {}).get(column.scalar) for label in (claim.better, *claim.than)]
        if all(isinstance(figure, int | float) for figure in figures):
            found[dataset] = min(sign * (figures[0] - other) for other in figures[1:])
    return found


def _items(
    edition: Edition,
    row: Row,
    column: Column,
    records: Sequence[Record],
    samples: Sequence[Mapping[str, np.ndarray]],
) -> list[ItemScores] | None:
    """Return the per-item parts of a column for each record, or None where they are not known."""
    if edition.table.kind == "curve" or not column.items:
        return None
    scores = [item_scores(column, arrays) for arrays in samples]
    if any(score is None for score in scores):
        return None
    for score, record in zip(scores, records, strict=True):
        recorded = record.scalars[row.named(column.scalar)]
        if abs(score.value - recorded) > TOLERANCE:
            raise UserError(
                f"{record.stem}: items of column {column.scalar!r} ({column.items}) give {score.value:.3f}, "
                f"but the run recorded {recorded:.3f}; mend 'items' in {edition.table.name}.toml"
            )
    return scores


def item_scores(column: Column, samples: Mapping[str, np.ndarray]) -> ItemScores | None:
    """Return `column` as sums over groups of items, in percent; None where a sample or its grouping is missing.

    Where the sample `owner` is given, a sample of its length belongs to the groups it names, and a sample
    with one item a group to these in order. Without it every item is its own group.
    """
    terms, owner = column.item_terms(), samples.get(OWNER)
    if any(name not in samples for name, _ in terms):
        return None
    lengths = {len(samples[name]) for name, _ in terms}
    if owner is None and len(lengths) > 1:
        return None
    # An image without a caption has no owner; it shows in the samples with one item an image.
    groups = max(lengths) if owner is None else max([int(owner.max()) + 1, *(lengths - {len(owner)})])
    sums, counts = [], []
    for name, bound in terms:
        sample = samples[name]
        by_owner = owner is not None and len(sample) == len(owner)
        if not by_owner and len(sample) != groups:
            return None
        group = owner if by_owner else np.arange(groups)
        hit = sample if bound is None else sample < bound
        sums.append(np.bincount(group, 100.0 * hit, minlength=groups))
        counts.append(np.bincount(group, minlength=groups).astype(np.float64))
    return ItemScores(np.stack(sums, axis=1), np.stack(counts, axis=1))
