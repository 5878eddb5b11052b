"""The features by which a saved model tells classes apart."""

import numpy as np
import pytest

from trainables.config import TrialConfig
from trainables.datasets.load import load
from trainables.evaluation.evaluate import features_of
from trainables.trial import run_trial


@pytest.mark.parametrize(("model", "width"), [("deep_cnn", 64), ("squeezenet1_0", 10), ("knn", 0)])
def test_features_are_what_the_last_layer_gets(model, width, tmp_path):
    options = {"model.name": model, "epochs": 1, "data.train_limit": 60, "precision": "fp32"}
    if model == "squeezenet1_0":
        options["model.input_size"] = 24
    config = TrialConfig().override(options)
    dataset = load(config.data)
    list(run_trial(config, dataset, tmp_path))
    found = features_of(config, dataset, next(tmp_path.glob("epoch-*")), dataset.val.images[:7])
    assert len(found) == 7
    assert found.shape[1] == width or (model == "knn" and found.shape[1] > 10)
    assert np.isfinite(found).all()
