"""The models of the registry by kind, for tests that run over many of them."""

from trainables.catalog.models import MODELS
from trainables.catalog.networks import FAMILIES

OWN = sorted(
    name
    for name, entry in MODELS.items()
    if entry.kind == "network" and entry.builder != FAMILIES and "classification" in entry.tasks
)
"""Our own networks that classify: small, and quick on the smallest images."""

BASELINES = sorted(
    name
    for name, entry in MODELS.items()
    if entry.kind == "baseline" and "classification" in entry.tasks and not entry.fitted_by
)
"""The baselines that classify by hand-made features."""

OF_TORCHVISION = sorted(
    name
    for name, entry in MODELS.items()
    if entry.builder == FAMILIES and entry.kind == "network" and not entry.extended_by
)

SEGMENTING = sorted(
    name
    for name, entry in MODELS.items()
    if entry.kind == "network" and "segmentation" in entry.tasks
)
"""The networks of segmentation."""

DETECTING = sorted(
    name for name, entry in MODELS.items() if entry.kind == "network" and "detection" in entry.tasks
)
"""The networks of detection."""
ENLARGING = sorted(
    name
    for name, entry in MODELS.items()
    if entry.kind == "network" and "super_resolution" in entry.tasks
)
"""The networks of super-resolution."""

LARGE = ("fcn", "pspnet", "deeplabv3", "unet_resnet34")
"""The beginnings of the names of those that take seconds to build and to run."""
