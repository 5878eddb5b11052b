"""The models of the registry by kind, for tests that run over many of them."""

from trainables.catalog.models import FAMILIES, MODELS

OWN = sorted(
    name for name, entry in MODELS.items() if entry.kind == "network" and entry.builder != FAMILIES
)
"""Our own networks: small, and quick on the smallest images."""

BASELINES = sorted(name for name, entry in MODELS.items() if entry.kind == "baseline")

OF_TORCHVISION = sorted(name for name, entry in MODELS.items() if entry.builder == FAMILIES)
