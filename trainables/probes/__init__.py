"""Linear classifiers on the features of pretrained networks."""
