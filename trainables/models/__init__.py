"""The networks: one family in each file, all listed in `trainables.catalog.models.MODELS`."""
