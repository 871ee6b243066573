"""What stands in the cells and under the tables of an edition's pages, as text."""

from __future__ import annotations

from training.reproduction.comparison import ClaimResult, Outcome
from training.reproduction.store import Record
from training.reproduction.table import Column
from training.statistics import LEVEL, MIN_SEEDS, POWER, Comparison, Summary, Verdict

MISSING = "–"
Grid = tuple[list[str], list[list[str]]]
"""Header and lines."""


def lead(outcome: Outcome) -> str:
    """Return the sentence above the tables."""
    edition = outcome.edition
    if not outcome.columns:
        return f"{edition.table.source}. Not run yet at scale `{edition.scale}`."
    data = ", ".join(sorted({r.data for row in outcome.rows for r in row.records.values() if r.data != "none"}))
    where = f" on {data}" if data else ""
    seeds = f"{len(edition.seeds)} seeds" if len(edition.seeds) > 1 else "one seed"
    text = f"{edition.table.source}. Ours: scale `{edition.scale}`{where}, {seeds}; "
    text += f"mean ± standard deviation [{LEVEL:.0%} interval of the mean]."
    return text + ("" if outcome.complete else " Some runs are missing.")


def our_cells(outcome: Outcome) -> Grid:
    """Return header and lines of our figures."""
    columns = outcome.columns
    header = ["", *(column.label for column in columns), "runs"]
    lines = []
    for result in (result for result in outcome.rows if outcome.edition.makes(result.row)):
        cells = [cell(column, result.summary(column.scalar)) for column in columns]
        lines.append([result.row.label, *cells, str(len({record.stem for record in result.records.values()}))])
    return header, lines


def printed_cells(outcome: Outcome) -> Grid:
    """Return header and lines of the thesis's own figures, dataset by dataset."""
    table = outcome.edition.table
    figures = [rows.values() for rows in table.printed.values()]
    columns = [c for c in table.columns if any(c.scalar in row for rows in figures for row in rows)]
    lines = [
        [dataset, row.label, *(number(column, rows[row.label].get(column.scalar)) for column in columns)]
        for dataset, rows in table.printed.items()
        for row in table.rows
        if row.label in rows
    ]
    return ["", "", *(column.label for column in columns)], lines


def claim_cells(outcome: Outcome) -> Grid:
    """Return header and lines of the verdicts."""
    header = ["claim", "figure", "ours: difference", "detectable", "thesis: difference", "holds here"]
    return header, [_claim_line(result) for result in outcome.claims if result.column in outcome.columns]


def _claim_line(result: ClaimResult) -> list[str]:
    others, digits = result.claim.than, result.column.digits
    than = " and ".join(others) if len(others) < 3 else f"each of the {len(others)} others"
    whose = "" if result.claim.source == "thesis" else f" ({result.claim.source})"
    detectable = max((c.detectable or 0.0 for c in result.comparisons.values()), default=0.0)
    printed = "; ".join(f"{value:+.{digits}f} {dataset}" for dataset, value in result.printed.items())
    return [
        f"{result.claim.better} better than {than}{whose}",
        result.column.label,
        difference(result),
        number(result.column, detectable) if detectable else MISSING,
        printed or MISSING,
        result.verdict.value,
    ]


def difference(result: ClaimResult) -> str:
    """Return the difference that speaks least for the claim, with its intervals, or why there is none."""
    if not result.comparisons:
        return result.remark or MISSING
    order = (Verdict.NO, Verdict.UNDECIDED, Verdict.YES)
    label, least = min(result.comparisons.items(), key=lambda item: (order.index(item[1].verdict), item[1].difference))
    text = _with_intervals(least, result.column.digits)
    text += f" ({label})" if len(result.comparisons) > 1 else ""
    return text + (f"; {result.remark}" if result.remark else "")


def _with_intervals(c: Comparison, digits: int) -> str:
    text = f"{c.difference:+.{digits}f}"
    if c.low is not None:
        text += f" [{c.low:+.{digits}f}, {c.high:+.{digits}f}]"
    if c.item_low is not None:
        text += f", with items [{c.item_low:+.{digits}f}, {c.item_high:+.{digits}f}]"
    return text


def cell(column: Column, summary: Summary | None) -> str:
    """Return mean, deviation and interval of a cell."""
    if summary is None:
        return MISSING
    text = number(column, summary.mean)
    if summary.deviation is None:
        return text
    low, high = number(column, summary.low), number(column, summary.high)
    return f"{text} ± {number(column, summary.deviation)} [{low}, {high}]"


def number(column: Column, value: float | str | None) -> str:
    """Return a figure with the digits of its column; text as it is."""
    if value is None:
        return MISSING
    return value if isinstance(value, str) else f"{value:,.{column.digits}f}"


def rule(outcome: Outcome) -> str:
    """Return how verdicts are made, and how many of them chance alone would give."""
    tests = len(claim_cells(outcome)[1])
    sentences = [
        f"Runs are paired by seed. *Yes*: the {LEVEL:.0%} interval of the mean difference (Student's t over seeds) is "
        "above zero, and so is, where it is given, the interval with items: of a bootstrap that draws seeds, and test "
        "images with their captions.",
        f"*No*: both are below zero. *Undecided* otherwise, and always with fewer than {MIN_SEEDS} seeds, or where "
        "no seed moves either row.",
        f"*Detectable*: the true difference that would be found with probability {POWER:.0%} at this spread.",
    ]
    if any(len(result.claim.than) > 1 for result in outcome.claims):
        sentences.append(
            "Against several rows, yes needs a yes against each, the least favourable is shown, and no is corrected "
            "for their number (Bonferroni)."
        )
    sentences += [
        f"Where {claim.better} is not found to be better than {' and '.join(claim.than)}{_by(claim.gate)}, a figure "
        "cannot rank, and the other verdicts on it are undecided."
        for claim in outcome.edition.table.claims
        if claim.gate is not None
    ]
    if tests > 1:
        sentences.append(
            f"The {tests} verdicts are not corrected for their number: if nothing differed, at most about "
            f"{tests * (1 - LEVEL) / 2:.2g} of them would be expected to read yes."
        )
    return " ".join(sentences)


def _by(gate: float) -> str:
    return f" by more than {gate:g}" if gate else ""


def provenance(outcome: Outcome) -> str:
    """Return which commits and processors the runs come from, and what they cost."""
    records = {record.stem: record for row in outcome.rows for record in row.records.values()}.values()
    if not records:
        return "No run has been made yet."
    commits = sorted({_short(record.commit) for record in records})
    minutes = sum(record.seconds for record in records) / 60
    machines = sorted({_machine(record) for record in records})
    waits = [record.waiting for record in records if record.waiting is not None]
    waited = f"; waiting for input took at most {max(waits):.0%} of a run's training" if waits else ""
    commit = ", ".join(commits)
    longest = f", the longest {max(record.seconds for record in records):.0f} s" if len(records) > 1 else ""
    return f"{len(records)} runs, {minutes:.0f} min in all{longest}, on {'; '.join(machines)}{waited}; commit {commit}."


def _machine(record: Record) -> str:
    """Return what a run ran on."""
    shared = f", {record.jobs} at a time" if record.jobs > 1 else ""
    return f"{record.cores} cores of {record.processor}".removesuffix(" of ") + shared


def _short(commit: str | None) -> str:
    """Return the first digits of a commit and the remark that may follow it."""
    digits, *remark = (commit or "unknown").split(" ", 1)
    return " ".join([digits[:10], *remark])
