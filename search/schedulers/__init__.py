"""What stops trials early, one scheduler a file; `registry.SCHEDULERS` names them."""
