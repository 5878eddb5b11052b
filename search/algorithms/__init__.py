"""What proposes trials, one algorithm a file; `registry.ALGORITHMS` names them."""
