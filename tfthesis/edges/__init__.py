"""Edge maps: their evaluation by the Berkeley benchmark (BSDS500), and the relaxed labels of Liu 2018, chapter 3.

| file | holds |
|---|---|
| thinning.py | one pixel wide edges: morphological thinning, non-maximum suppression |
| matching.py | one-to-one pairs of predicted and true edge pixels |
| counting.py | matched pixels of one image at every threshold |
| scores.py | counts of all images -> ODS, OIS, AP and the curve |
| official.py | the text files of the Berkeley code |
| relaxed.py | labels 0, 1 and 2 to train with: Canny, thresholded edge maps, annotators, segmentations |
"""
