"""The networks, one family a file; `trainables.catalog.models.MODELS` names them."""
