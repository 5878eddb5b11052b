"""The code that MLflow loads with a promoted model.

A copy of this file runs without this project, so it must not import anything of it.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class PromotedModel(PythonModel):
    """The classifier in the model's folder, with its copy of `trainables/export/predictor.py`."""

    def load_context(self, context: Any) -> None:
        """Load the classifier from the folder.

        Its code is not added to `sys.modules`, since a process may use models of several versions.
        """
        folder = Path(context.artifacts["classifier"])
        spec = importlib.util.spec_from_file_location("predictor", folder / "predictor.py")
        if spec is None or spec.loader is None:
            raise ImportError(f"{folder} holds no predictor.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.classifier = module.Predictor(folder)

    def predict(
        self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Classify images in any form that `predictor.py` accepts, and return its table.

        For the annotated type of `model_input`, MLflow does not infer a schema.
        """
        table: pd.DataFrame = self.classifier.table(model_input)
        return table


set_model(PromotedModel())
