"""The data set of a search in MLflow: name, digest, source, schema and profile."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from search.facts.data import source_text

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput


def data_input(data: Mapping[str, Any]) -> "DatasetInput":
    """Convert the facts of a data set, as in the journal, to a data set input of MLflow."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    channels, height, width = data["image"]
    spec = {"dtype": "uint8", "shape": [-1, height, width, channels]}
    feature = {"name": "images", "type": "tensor", "tensor-spec": spec}
    profile = {
        "classes": len(data["classes"]),
        **{part: data[part] for part in ("train", "val", "test")},
    }
    dataset = Dataset(
        name=source_text(data)[:500],
        digest=data["fingerprint"],
        source_type="local",
        source=json.dumps({"uri": data.get("bucket") or data["root"] or data["name"]}),
        schema=json.dumps(
            {"mlflow_tensorspec": {"features": json.dumps([feature]), "targets": None}}
        ),
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "search")])
