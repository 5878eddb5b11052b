"""The values of masks: uint8 class numbers, and one value for pixels that do not count."""

IGNORED = 255
"""The value of pixels that belong to no class: they are neither trained on nor evaluated."""
MAX_CLASSES = 255
"""The maximum number of classes; their numbers are 0 to 254."""
SIDE_STEP = 32
"""The sides of training inputs are multiples of this number of pixels.

Networks for segmentation halve their input up to five times.
"""
