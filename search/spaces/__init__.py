"""The named search spaces, one a file, each with `space()`; `find` looks one up, or a user's own."""
