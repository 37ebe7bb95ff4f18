import io
import json
import pickle
import zipfile

import numpy as np
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, QuantileTransformer

from attrition.errors import Damaged
from attrition.modelling import calibration, explanations, models, persistence
from attrition.modelling.models import Model
from tests.modelling.samples import CATEGORICAL, KINDS, NUMERIC, fitted, table


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return fitted(request.param)


def test_a_model_comes_back_from_its_file_with_equal_predictions(model):
    rows, _ = table(100, seed=1)
    loaded = persistence.loads(persistence.dumps(model))
    np.testing.assert_array_equal(models.predict(loaded, rows), models.predict(model, rows))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_rows_give_the_same_file(kind):
    assert persistence.dumps(fitted(kind)) == persistence.dumps(fitted(kind))


def test_a_calibrated_blend_comes_back_as_it_was():
    rows, outcome = table()
    parts = tuple(fitted(kind).parts[0] for kind in (models.LOGISTIC, models.BOOSTING))
    score = models.score(Model(parts, (0.6, 0.5)), rows)
    blend = Model(parts, (0.6, 0.5), calibration.fit_isotonic(score, outcome))
    loaded = persistence.loads(persistence.dumps(blend))
    assert loaded.calibration == blend.calibration
    np.testing.assert_array_equal(models.predict(loaded, rows), models.predict(blend, rows))


def test_a_model_of_the_version_before_still_loads_and_predicts():
    """Its numbers were scaled by scikit-learn's own normal scores, in a pipeline of this shape."""
    rows, outcome = table()
    scale = QuantileTransformer(n_quantiles=100, output_distribution="normal", random_state=0)
    numbers = Pipeline([("scale", scale), ("fill", SimpleImputer(add_indicator=True))])
    encode = ColumnTransformer(
        [
            (models.NUMBERS, numbers, NUMERIC),
            (models.LEVELS, OneHotEncoder(min_frequency=2, sparse_output=False), CATEGORICAL),
        ]
    )
    part = Pipeline([("encode", encode), ("model", LogisticRegression())]).fit(rows, outcome)
    loaded = persistence.loads(persistence.dumps(Model((part,))))
    np.testing.assert_array_equal(
        models.predict(loaded, rows), models.predict(Model((part,)), rows)
    )
    added = explanations.contributions(loaded, rows, models.baseline(rows, NUMERIC, CATEGORICAL))
    assert np.isfinite(added.to_numpy()).all()


# ---- hostile files


class Opens:
    """Would make a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def rewritten(data, change):
    """Change the schema of a skops file."""
    found = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(found, "w") as new:
        for name in old.namelist():
            text = old.read(name)
            new.writestr(name, change(text.decode()) if name == "schema.json" else text)
    return found.getvalue()


def test_a_pickle_is_refused_and_not_run(tmp_path):
    with pytest.raises(Damaged):
        persistence.loads(pickle.dumps(Opens(tmp_path / "made")))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "data", [b"", b"PK\x05\x06" + bytes(18), np.random.default_rng(0).bytes(999)]
)
def test_bytes_that_are_no_model_are_refused(data):
    with pytest.raises(Damaged):
        persistence.loads(data)


def test_a_type_that_we_do_not_know_is_refused():
    hostile = Pipeline([("run", FunctionTransformer(np.save)), ("model", LogisticRegression())])
    with pytest.raises(Damaged, match="cannot be trusted"):
        persistence.loads(skops.io.dumps(hostile))


@pytest.mark.parametrize("name", ["system", "no_such_function"])
def test_a_model_file_changed_to_call_something_else_is_refused(name):
    def change(text):
        schema = json.loads(text)
        schema["__module__"], schema["__class__"] = "os", name
        return json.dumps(schema)

    with pytest.raises(Damaged):
        persistence.loads(rewritten(persistence.dumps(fitted(models.LOGISTIC)), change))


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_torn_model_file_is_refused(kept):
    data = persistence.dumps(fitted(models.LOGISTIC))
    with pytest.raises(Damaged):
        persistence.loads(data[: int(len(data) * kept)])
