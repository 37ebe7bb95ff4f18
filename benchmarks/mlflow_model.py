"""Save the model of a release in MLflow's format; MLflow runs this file again to load it.

Runs in the environment that benchmarks/serving.py makes for MLflow. The model has no signature: checking
one would make each answer slower.

Reads:  trainedmodel.skops of a release
Writes: FOLDER, a model that `mlflow models serve` takes
Run:    PYTHONPATH=. PYTHON -P benchmarks/mlflow_model.py trainedmodel.skops FOLDER
"""

import sys
from pathlib import Path

import mlflow

from attrition.modelling import models, persistence


class Risk(mlflow.pyfunc.PythonModel):
    """The risks of rows that have every feature; a missing category is an empty text."""

    def load_context(self, context):
        self.model = persistence.loads(Path(context.artifacts["model"]).read_bytes())

    def predict(self, context, model_input, params=None):
        return models.predict(self.model, model_input)


def main() -> int:
    model, folder = sys.argv[1:]
    mlflow.pyfunc.save_model(
        folder,
        python_model=__file__,
        artifacts={"model": model},
        code_paths=[str(Path(persistence.__file__).parents[1])],
        pip_requirements=["mlflow"],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
mlflow.models.set_model(Risk())
