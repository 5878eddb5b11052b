"""The algorithms that propose trials, one per module. They are registered in `registry`."""
