"""Provides the machines: sessions and resources. Knows nothing of searches or trainings."""
