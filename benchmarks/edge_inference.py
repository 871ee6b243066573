"""Time and memory of an edge map by the size of the image, for both trunks of RDS.

    python -m benchmarks.edge_inference

Each size has a process of its own, so that its peak of memory is its own. The weights are random, which changes
neither.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from benchmarks.kept import add_json_option, keep
from tfthesis.discovery import load_method
from tfthesis.edges.detection import EdgeDetector
from tfthesis.method import Spec

# Height and width; 321 x 481 are BSDS500's.
SIZES = ((160, 240), (321, 481), (642, 962), (963, 1443))
TRUNKS = ("narrow", "vgg16")


def measure(trunk: str, height: int, width: int, repeats: int) -> dict[str, float]:
    """Return the median milliseconds of an edge map, and the peak of this process before and behind, in MiB."""
    keras.utils.set_random_seed(0)
    method = load_method("rds")
    model = method.build(method.recipe("quick", trunk=trunk), Spec(inputs={"image": (None, None, 3)}))
    detect = tf.function(EdgeDetector(model).probabilities)
    pixels = tf.constant(np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8))
    before = _peak()
    detect(pixels)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        detect(pixels).numpy()
        times.append(time.perf_counter() - start)
    return {"ms": round(1e3 * float(np.median(times)), 2), "model_mib": round(before), "peak_mib": round(_peak())}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and keep the figures; with `--one` a single case, as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.edge_inference", description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--one", nargs=3, metavar=("TRUNK", "HEIGHT", "WIDTH"), help="measure this case only")
    add_json_option(parser, "edge_inference")
    arguments = parser.parse_args(argv)
    if arguments.one:
        trunk, height, width = arguments.one
        print(json.dumps(measure(trunk, int(height), int(width), arguments.repeats)))
        return
    rows = []
    for trunk in TRUNKS:
        for height, width in SIZES:
            command = [sys.executable, "-m", "benchmarks.edge_inference", "--repeats", str(arguments.repeats)]
            found = subprocess.run(
                [*command, "--one", trunk, str(height), str(width)], check=True, capture_output=True, text=True
            )
            figures = json.loads(found.stdout)
            print(f"{trunk}, {height} x {width}: {figures['ms']} ms, peak {figures['peak_mib']} MiB", flush=True)
            rows.append({"trunk": trunk, "height": height, "width": width, **figures})
    keep(arguments.json, rows)


if __name__ == "__main__":
    main()
