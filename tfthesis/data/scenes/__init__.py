"""One deterministic renderer of drawn scenes: pictures, captions by five annotators, labels, object masks, outlines.

| file | holds |
|---|---|
| scene.py | what a scene is, and how one is drawn by lot |
| shapes.py | the outlines of the object kinds |
| paint.py | colours, textures, backgrounds, filling polygons |
| render.py | scene -> pixels and object map |
| captions.py | scene -> sentences of five annotators |
| outlines.py | scene and object map -> edges of several annotators |
| dolls.py | persons in clothes and poses -> pixels, joints, body parts; by a version of its own |

A further default set is a further file that starts from `Scene` and `Canvas`.
"""

# Raised whenever a scene, a pixel or a word changes: figures of different versions do not compare.
VERSION = 1
