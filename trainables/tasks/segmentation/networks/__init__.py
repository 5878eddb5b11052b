"""The networks of segmentation, one family in each file. They may import `trainables.models`."""
