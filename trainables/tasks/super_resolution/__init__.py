"""Super-resolution: `task` is the task, `bicubic` the enlargement that networks correct, and
`report` the evaluation of enlarged images. These modules may import those of `trainables.tasks` and
all that these may import.
"""
