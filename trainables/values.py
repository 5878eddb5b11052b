"""Names for plain dicts whose keys others decide: JSON, a space, a task, torch.

Where the keys are ours and fixed, there is a dataclass instead.
"""

from typing import Any

Json = dict[str, Any]
"""A JSON object that others describe: a config, a description, what a command prints."""

Params = dict[str, Any]
"""Values by dotted path into a `TrialConfig`, such as `{"optimizer.lr": 0.01}`.

Of a trial they are the searched ones. Only parameters that exist beside the others' values are
among them.
"""

State = dict[str, Any]
"""All that a training goes on from: tensors and plain values, nested, as torch's state dicts are.

It is what a checkpoint holds.
"""

Evaluation = dict[str, Any]
"""A record of how good predictions are on a part of the data, as JSON holds it.

A task decides what is in it (`trainables.tasks.base.Task.evaluate`).
"""
