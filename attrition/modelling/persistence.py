"""Model files: skops, never pickles; loading runs no code that is not in TRUSTED."""

import io
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import skops
import skops.io

from attrition.errors import Damaged
from attrition.modelling.calibration import Calibration
from attrition.modelling.models import Model

PART = re.compile(r"schema\.json|\d+\.\w+")
SCHEMA = "schema.json"  # skops' own name for the description of a model, in its file
TRUSTED = (
    "numpy.dtype",
    "sklearn.model_selection._split.KFold",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
)


def dumps(model: Model) -> bytes:
    """Return a fitted model as the bytes of a skops file: same model, same bytes.

    skops names the parts of a model by where they lay in memory; here they are numbered.
    """
    numbers: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        return match[1] + numbers.setdefault(match[2], str(len(numbers)))

    made = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(skops.io.dumps(_plain(model)))) as old,
        zipfile.ZipFile(made, "w") as new,
    ):
        schema = re.sub(r'("__id__": |"file": ")([\w-]+)', number, old.read(SCHEMA).decode())
        new.writestr(zipfile.ZipInfo(SCHEMA), schema)
        parts = {Path(name): name for name in old.namelist() if name != SCHEMA}
        for path in sorted(parts, key=lambda path: int(numbers[path.stem])):
            named = zipfile.ZipInfo(numbers[path.stem] + path.suffix)
            new.writestr(named, old.read(parts[path]))
    return made.getvalue()


def loads(data: bytes) -> Model:
    """Load a model whose every type is known.

    Raises: Damaged, having run no code of the file and unpacked no more than it holds.
    """
    try:
        _check_parts(data)
        found = skops.io.loads(data, trusted=list(TRUSTED))
        knots = found["calibration"]
        calibration = Calibration(knots["kind"], tuple(knots["scores"]), tuple(knots["log_odds"]))
        return Model(tuple(found["parts"]), tuple(found["weights"]), calibration)
    except Exception as error:  # a hostile file can raise anything; none of it may pass
        raise Damaged(f"the model file cannot be trusted: {error}") from error


def _plain(model: Model) -> dict[str, Any]:
    """What is kept of a model: scikit-learn's own types and plain ones, none of ours."""
    calibration = model.calibration.to_dict()
    knots = {key: list(value) if key != "kind" else value for key, value in calibration.items()}
    return {"parts": list(model.parts), "weights": list(model.weights), "calibration": knots}


def _check_parts(data: bytes) -> None:
    """Let only pass what `dumps` makes: parts by number, each once, stored as they are.

    Nothing packed means that no small file can become a large one.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        parts = file.infolist()
    names = [part.filename for part in parts]
    if bad := [name for name in names if not PART.fullmatch(name)]:
        raise ValueError(f"it holds {bad[0]!r}, which no model has")
    if len(set(names)) < len(names):
        raise ValueError("it holds a part twice")
    packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
    if packed or sum(part.file_size for part in parts) > len(data):
        raise ValueError("its parts are packed, expected them as they are")


def versions() -> dict[str, str]:
    """Return the versions on which the risks of a model may depend."""
    return {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "skops": skops.__version__,
    }
