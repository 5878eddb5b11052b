"""Networks that find objects.

In training, a network maps images and their boxes to its losses. Otherwise it maps images, float32
(batch, channels, height, width), to candidates, (batch, candidates, 4 + classes): left, top, right
and bottom in pixels, and the score of each class from 0 to 1. `trainables.tasks.detection` selects
the final boxes from them. A network with several candidates for each object says about how many in
its attribute `copies`.
"""
