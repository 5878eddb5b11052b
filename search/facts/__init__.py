"""Findings of a search: frozen values, and numbers derived from the journal."""
