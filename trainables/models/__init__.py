"""The networks, one family per file; `trainables.catalog.models.MODELS` lists them."""
