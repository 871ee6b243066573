"""RDS: edge detection with relaxed deep supervision (Liu 2018, chapter 3).

The side outputs of HED's network are supervised by labels that leave out what a simple detector finds beside the edges
that people drew, more of it for the lower ones: these points are left to the higher ones, and to the fused output.
Edges of segmentations (CEA) can train the fused output first.
"""

from __future__ import annotations

import dataclasses

from tfthesis.edges.methods import edge_method
from tfthesis.edges.recipe import NARROW, PHOTOGRAPHS, TINY, EdgeRecipe

_THESIS = EdgeRecipe(dataset="bsds500", weights="imagenet")
_QUICK = dataclasses.replace(_THESIS, **NARROW, learning_rate=0.05, fusion_rate=0.1, upsampling_rate=0.1)

METHOD = edge_method(
    title="RDS",
    chapter="Liu 2018, chapter 3",
    summary="Edge detection with relaxed labels for the side outputs.",
    presets={
        "thesis": _THESIS,
        "thesis_nyud": dataclasses.replace(_THESIS, test_dataset="nyud", max_dist=0.011, further_reaches=(0.0075,)),
        "bsds500": dataclasses.replace(
            _QUICK, **PHOTOGRAPHS, placement="crop", height=160, width=160, learning_rate=0.06
        ),
        "quick": _QUICK,
        "tiny": dataclasses.replace(_QUICK, **TINY),
    },
    variants={
        "baseline1": {"supervised": (), "relaxed": "none"},
        "baseline2": {"relaxed": "none"},
        "early": {"supervised": (1, 2, 3)},
        "late": {"supervised": (4, 5)},
        "undilated": {"dilate": False},
        "cea": {"coarse_dataset": "scenes"},
        # Photographs, as in the thesis; their folders are `coarse_folder` and `coarse_reader=labels=DIR`.
        "cea_context": {"coarse_dataset": "pascal_context"},
        "cea_only": {"coarse_dataset": "scenes", "epochs": (0,)},
        "multi_scale": {"test_scales": (0.75, 1.0, 1.5)},
    },
)
