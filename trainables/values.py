"""Type aliases for dicts whose keys this project does not fix, such as torch's state dicts.

For fixed keys there are dataclasses.
"""

from typing import Any

Json = dict[str, Any]
"""A JSON object, such as a config, a description, or the output of a command."""

Params = dict[str, Any]
"""Values by dotted path into a `TrialConfig`, such as `{"optimizer.lr": 0.01}`.

A trial's `Params` are its searched hyperparameters. A conditional one, which exists only for some
values of other hyperparameters, is left out if it does not exist.
"""

State = dict[str, Any]
"""The state of a training, which a checkpoint stores: nested dicts of tensors and plain values."""

Evaluation = dict[str, Any]
"""An evaluation of predictions on a part of the data, as JSON-compatible values.

Its content depends on the task (`trainables.tasks.base.Task.evaluate`).
"""
