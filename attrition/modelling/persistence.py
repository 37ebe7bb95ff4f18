"""Model files in skops format, never pickles: loading one runs no code but that of trusted types."""

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
SCHEMA = "schema.json"  # the name that skops gives to the description of a model in its file
TRUSTED = (
    "numpy.dtype",
    "sklearn.model_selection._split.KFold",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "attrition.modelling.number_scores.NumberScores",
)


def dumps(model: Model) -> bytes:
    """Return a fitted model as the bytes of a skops file; equal models give equal bytes.

    skops names the parts of a model by their memory addresses; here they are numbered.
    """
    numbers: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        return match[1] + numbers.setdefault(match[2], str(len(numbers)))

    data = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(skops.io.dumps(_to_builtin_types(model)))) as old,
        zipfile.ZipFile(data, "w") as new,
    ):
        schema = re.sub(r'("__id__": |"file": ")([\w-]+)', number, old.read(SCHEMA).decode())
        new.writestr(zipfile.ZipInfo(SCHEMA), schema)
        parts = {Path(name): name for name in old.namelist() if name != SCHEMA}
        for path in sorted(parts, key=lambda path: int(numbers[path.stem])):
            member = zipfile.ZipInfo(numbers[path.stem] + path.suffix)
            new.writestr(member, old.read(parts[path]))
    return data.getvalue()


def loads(data: bytes) -> Model:
    """Load a model if all of its types are trusted.

    Raises: Damaged if they are not; then no code of the file has run and nothing was decompressed.
    """
    try:
        _check_parts(data)
        content = skops.io.loads(data, trusted=list(TRUSTED))
        knots = content["calibration"]
        calibration = Calibration(knots["kind"], tuple(knots["scores"]), tuple(knots["log_odds"]))
        return Model(tuple(content["parts"]), tuple(content["weights"]), calibration)
    except Exception as error:  # a hostile file can raise anything; none of it may pass
        raise Damaged(f"the model file cannot be trusted: {error}") from error


def _to_builtin_types(model: Model) -> dict[str, Any]:
    """Return a model as scikit-learn's types and built-in ones, with no dataclass of this package."""
    calibration = model.calibration.to_dict()
    knots = {key: list(value) if key != "kind" else value for key, value in calibration.items()}
    return {"parts": list(model.parts), "weights": list(model.weights), "calibration": knots}


def _check_parts(data: bytes) -> None:
    """Raise ValueError if a file has other members than `dumps` writes: numbered, once, uncompressed.

    Without compression no small file can expand to a large one.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        parts = file.infolist()
    names = [part.filename for part in parts]
    if bad := [name for name in names if not PART.fullmatch(name)]:
        raise ValueError(f"it contains {bad[0]!r}, which no model file has")
    if len(set(names)) < len(names):
        raise ValueError("it contains a part twice")
    is_compressed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
    if is_compressed or sum(part.file_size for part in parts) > len(data):
        raise ValueError("its parts are compressed, expected them uncompressed")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that can change the risks of a model."""
    return {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "skops": skops.__version__,
    }
