"""The code that MLflow loads with a promoted model.

A copy of this file is run where this project is not. Nothing here imports it.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class Promoted(PythonModel):
    """The classifier in the model's own folder, by the code in that folder.

    The code is `trainables/export/predictor.py`.
    """

    def load_context(self, context: Any) -> None:
        """Read the folder.

        Its code is not put among the imported modules: a process may have several models of several
        versions.
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
        """Return the table for images in any form that `predictor.py` takes.

        The type of `model_input` is one of which MLflow makes no schema.
        """
        table: pd.DataFrame = self.classifier.table(model_input)
        return table


set_model(Promoted())
