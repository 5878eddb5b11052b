"""The algorithms that propose trials, one a file; `registry.ALGORITHMS` names them."""
