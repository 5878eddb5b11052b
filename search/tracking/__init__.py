"""MLflow: the runs of a search, written from its journal, and the model registry.

The runs are a projection: no decision depends on the contents of MLflow. The package may import
`search.journal` and texts from `search.views`, but never `search.decisions` or `search.execution`.
"""
