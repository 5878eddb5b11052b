"""The code with which MLflow loads a promoted model.

MLflow copies this file into the model. The copy runs without this project, so this file must not
import the project's modules.
"""

import importlib.util
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class PromotedModel(PythonModel):
    """A wrapper around the exported classifier in the model's folder.

    The folder contains the package `predictor`, a copy of the code that predicts for its task.
    """

    def load_context(self, context: Any) -> None:
        """Load the classifier from the model's folder.

        The package `predictor` gets a name of its own in `sys.modules`, since a process may load
        several models, each with another version of it.

        Raises:
            ImportError: the folder has no `predictor/__init__.py`.
        """
        folder = Path(context.artifacts["classifier"])
        code, name = folder / "predictor" / "__init__.py", f"predictor_{uuid.uuid4().hex}"
        spec = importlib.util.spec_from_file_location(name, code)
        if spec is None or spec.loader is None or not code.is_file():
            raise ImportError(f"the model in {folder} is incomplete: it does not contain {code}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        self.classifier = module.Predictor(folder)

    def predict(
        self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Predict images, and return a table with one row per image.

        `model_input` may have any form that the predictor accepts. It is annotated as an array
        because MLflow infers no schema from that type.
        """
        table: pd.DataFrame = self.classifier.table(model_input)
        return table


set_model(PromotedModel())
