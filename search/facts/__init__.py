"""Facts about a search, as values without texts, which are computed from its journal."""
