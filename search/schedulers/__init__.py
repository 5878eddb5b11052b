"""Schedulers, which stop trials early: one a file, named in `registry.SCHEDULERS`."""
