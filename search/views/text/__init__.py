"""Texts on a search that the terminal, the report, the pages and MLflow share."""
