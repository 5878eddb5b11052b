"""Names for plain dicts whose keys are not fixed by us: JSON, a space, a task, torch.

Where the keys are ours and fixed, there is a dataclass instead.
"""

from typing import Any

Json = dict[str, Any]
"""A JSON object, such as a config, a description, or the output of a command."""

Params = dict[str, Any]
"""Values by dotted path into a `TrialConfig`, such as `{"optimizer.lr": 0.01}`.

A trial's are the searched ones. A parameter that exists only for some values of others is left out
where it does not exist.
"""

State = dict[str, Any]
"""The state of a training: tensors and plain values, nested, as torch's state dicts are.

A checkpoint stores it.
"""

Evaluation = dict[str, Any]
"""A record of how good predictions are on a part of the data, as JSON-compatible values.

A task decides what is in it (`trainables.tasks.base.Task.evaluate`).
"""
