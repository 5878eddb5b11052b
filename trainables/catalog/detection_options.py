"""The options of detection; no torch is imported."""

from dataclasses import dataclass

from trainables.fields import Options, number


@dataclass(frozen=True, kw_only=True)
class DetectionOptions(Options):
    """The options of finding objects in images."""

    most_boxes: int = number(100, low=1, high=1000)
    """The maximum number of boxes that are found in an image; COCO's figures are for 100."""
    overlap: float = number(0.6, low=0, high=1)
    """Of two boxes of the same class whose intersection over union exceeds this, the one with the
    lower score is left out.
    """
