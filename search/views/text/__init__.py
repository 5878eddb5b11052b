"""Texts about a search, shared by the terminal, the report, the pages and MLflow."""
