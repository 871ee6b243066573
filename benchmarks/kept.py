"""What a benchmark measured, kept as JSON together with what it was measured on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from training.environment import describe_machine, package_version
from training.files import replacing

FOLDER = Path(__file__).parent / "results"


def add_json_option(parser: argparse.ArgumentParser, name: str) -> None:
    """Give a benchmark the option `--json`, by default `benchmarks/results/NAME.json`."""
    path = FOLDER / f"{name}.json"
    help = f"where to keep the figures (benchmarks/results/{name}.json)"
    parser.add_argument("--json", type=Path, default=path, metavar="FILE", help=help)


def keep(path: Path, rows: Any) -> None:
    """Write `rows` and a description of the machine to `path`, whole or not at all."""
    machine = describe_machine()
    # Of the packages that a benchmark compares with, none is needed elsewhere.
    machine["packages"] |= {name: package_version(name) for name in ("torch", "faiss-cpu")}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write((json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n").encode())
