"""The networks, one family a file; `registry.MODELS` names them."""
