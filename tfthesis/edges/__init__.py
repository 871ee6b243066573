"""Edges: networks and what they are trained with (Liu 2018, chapters 2 and 3), and the Berkeley benchmark (BSDS500).

| file | holds |
|---|---|
| thinning.py | one pixel wide edges: morphological thinning, non-maximum suppression |
| matching.py | one-to-one pairs of predicted and true edge pixels |
| counting.py | matched pixels of one image at every threshold |
| scores.py | counts of all images -> ODS, OIS, AP and the curve |
| official.py | the text files of the Berkeley code |
| recipe.py, methods.py, training.py | the numbers of HED, FCFN and RDS, and what a method does with them |
| data.py | images and labels to train with |
| networks.py, detection.py | side outputs and their fusion; from an image of any size to its map |
| evaluation.py, served.py, pictures.py | what is measured, served and drawn |
| relaxed.py | labels 0, 1 and 2 to train with: Canny, thresholded edge maps, annotators, segmentations |
"""
