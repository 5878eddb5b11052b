"""The formats of annotations, one in each file. They may import `trainables.datasets`."""
