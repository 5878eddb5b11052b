"""The parameter-randomisation check: do the maps depend on the trained weights?

Maps that remain the same when the network's last layers get random weights show the image, not the
network (Adebayo et al. 2018, "Sanity Checks for Saliency Maps", section 3). In addition, a map must
explain the trained network better than the map of each of these networks does: otherwise it could
be one of them, since the maps of two random networks differ too.
"""

import numpy as np
from scipy.stats import rankdata

from trainables.explanations.explainable import Floats, Maps

REDRAWS = 19
"""The largest number of networks with random layers with which a map is compared.

A map of another such network passes with a probability of at most 1 / 20: it is exchangeable with
the maps of these, so that each of the 20 has the highest score equally often (a Monte Carlo test,
Barnard 1963). A map that has lost a comparison is compared no further, which changes no verdict
(Besag and Clifford 1991, section 2).
"""
MAX_CORRELATION = 0.5
"""The rank correlation from which maps count as equal: they share a quarter of their variance.

Adebayo et al. state no threshold. The mean over `REDRAWS` networks is compared, since random layers
may turn the sign of a single map by chance. A method that ignores the weights, such as an edge
detector, has correlation 1.
"""


def rank_correlations(first: Maps, second: Maps) -> Floats:
    """Compute Spearman's rank correlation of two maps of each image; 0 for a flat map."""
    ranks = [rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (first, second)]
    centred = [values - values.mean(axis=1, keepdims=True) for values in ranks]
    lengths = [np.linalg.norm(values, axis=1) for values in centred]
    products = (centred[0] * centred[1]).sum(axis=1)
    scale = lengths[0] * lengths[1]
    correlations: Floats = np.divide(products, scale, out=np.zeros(len(first)), where=scale > 0)
    return correlations
