"""FCFN for edges: HED with locally-connected fusion (Liu 2018, sections 2.3.2 and 2.4.5).

Five side outputs of VGG-16 predict the edges, and their fusion does; each has a loss. HED's fusion has one weight for
each side output, FCFN's one for each side output and place, so that its images have one size.
"""

from __future__ import annotations

import dataclasses

from tfthesis.edges.methods import edge_method
from tfthesis.edges.recipe import NARROW, PHOTOGRAPHS, TINY, EdgeRecipe

# What section 2.4.5 names, and for the rest HED's released solver.
_THESIS = EdgeRecipe(
    dataset="bsds500",
    weights="imagenet",
    fusion="local",
    test_size="training",
    dilate=False,
    relaxed="none",
    positive=0.0,
    train_upsampling=False,
    learning_rate=1e-6,
    fusion_rate=0.001,
)
_QUICK = dataclasses.replace(_THESIS, **NARROW, learning_rate=0.2, fusion_rate=1.0)

METHOD = edge_method(
    title="FCFN for edges",
    chapter="Liu 2018, chapter 2",
    summary="Edge detection with a locally-connected fusion of five side outputs.",
    presets={
        "thesis": _THESIS,
        "bsds500": dataclasses.replace(_QUICK, **PHOTOGRAPHS, height=128, width=192, learning_rate=0.6),
        "quick": _QUICK,
        "tiny": dataclasses.replace(_QUICK, **TINY),
    },
    variants={
        "hed": {"fusion": "convolution"},
        "dilated": {"dilate": True},
        "fusion_alone": {"supervised": ()},
    },
)
