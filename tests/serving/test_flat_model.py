"""Risks, explanations and files of flat models, with planted answers."""

import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrition.errors import Damaged
from attrition.serving import flat_model, flattening
from attrition.serving.flat_model import Calibration, Category, Curve, FlatModel, Forest, Number
from tests.serving.samples import flat_and_fitted

NO_CUTS = np.empty(0), np.zeros(1)


def planted(calibration=("none", (0.0, 1.0), (0.0, 1.0))):
    """One number with a curve and a tree, one category with two levels."""
    curve = Curve(
        np.array([0.0, 10.0]), np.array([0.0, 1.0]), 2.0, np.array([0.5]), np.array([0.0, 4.0])
    )
    number = Number("size", np.array([3.0]), (curve,), -1.0)
    category = Category(
        "plan", ("", "yearly"), np.array([False, True]), np.array([0.5, -0.5, 0.25])
    )
    # Leaf 0: size <= 3 and yearly; leaf 1: size <= 3 and not yearly; leaf 2: size > 3 or missing.
    masks = np.array([[0b011], [0b100], [0b100], [0b110], [0b101], [0b110]], dtype="<u1")
    values = np.array([[10.0, 20.0, 40.0, *[0.0] * 6]])
    return FlatModel((number, category), 0.125, (Forest(masks, values),), Calibration(*calibration))


def log_odds(risk):
    return np.log(risk / (1 - risk))


@pytest.mark.parametrize(
    ("size", "plan", "expected"),
    [
        (1.0, "yearly", 0.125 + 0.2 - 0.5 + 10),
        (3.0, "yearly", 0.125 + 0.6 - 0.5 + 10),
        (3.5, "", 0.125 + 0.7 + 0.5 + 40),
        (5.0, "other", 0.125 + 1.0 + 4 + 0.25 + 40),
        (1.0, "other", 0.125 + 0.2 + 0.25 + 20),
        (99.0, "yearly", 0.125 + 2.0 + 4 - 0.5 + 40),
        (np.nan, "yearly", 0.125 - 1 - 0.5 + 40),
    ],
)
def test_risk_is_the_sum_of_terms_and_leaves(size, plan, expected):
    scaled = ("sigmoid", (0.0, 1.0), (0.0, 0.1))
    (risk,) = planted(scaled).predict({"size": np.array([size]), "plan": [plan], "more": [0]})
    assert log_odds(risk) == pytest.approx(expected / 10, abs=1e-9)


def test_contributions_are_shared_between_features_that_move_a_leaf_together():
    """From (1, yearly) to (5, other): the leaf goes 10 -> 40; alone, size gives +30 and plan +10."""
    columns = {"size": np.array([5.0]), "plan": ["other"]}
    added = planted().explain(columns, {"size": 1.0, "plan": "yearly"})
    size, plan = (30 + 20) / 2, (10 + 0) / 2
    np.testing.assert_allclose(added, [[5.0 - 0.2 + size, 0.75 + plan]], atol=1e-12)


def test_contributions_are_scaled_by_the_calibration():
    columns = {"size": np.array([5.0, 1.0]), "plan": ["other", "yearly"]}
    baseline = {"size": 1.0, "plan": "yearly"}
    flat = planted(("sigmoid", (0.0, 1.0), (3.0, 3.5)))
    np.testing.assert_allclose(
        flat.explain(columns, baseline), planted().explain(columns, baseline) / 2
    )
    assert not flat.explain(columns, baseline)[1].any()


def test_contributions_to_a_missing_baseline():
    added = planted().explain(
        {"size": np.array([np.nan]), "plan": [""]}, {"size": None, "plan": ""}
    )
    assert not added.any()


def test_unseen_levels_are_those_the_model_does_not_call_known():
    unseen = planted().unseen({"size": np.zeros(3), "plan": ["", "yearly", "other"]})
    assert {name: rows.tolist() for name, rows in unseen.items()} == {"plan": [True, False, True]}


def test_no_rows_give_no_risks():
    flat, columns = planted(), {"size": np.zeros(0), "plan": []}
    assert flat.predict(columns).shape == (0,)
    assert flat.explain(columns, {"size": 1.0, "plan": ""}).shape == (0, 2)
    assert flat.unseen(columns)["plan"].shape == (0,)


def test_one_row_and_many_give_the_same_risks():
    flat, _, rows = flat_and_fitted()
    columns = flattening.to_columns(flat, rows)
    risks = flat.predict(columns)
    for i in (0, 127, 128, 599):
        one = {name: values[i : i + 1] for name, values in columns.items()}
        assert flat.predict(one)[0] == risks[i]


@given(st.lists(st.floats(-1e300, 1e300) | st.just(float("nan")), min_size=1, max_size=5))
def test_any_number_has_a_risk(sizes):
    risks = planted().predict({"size": np.array(sizes), "plan": ["?"] * len(sizes)})
    assert ((risks >= 0) & (risks <= 1)).all()


# ---- files


def test_loaded_model_gives_equal_bytes_and_risks():
    flat, _, rows = flat_and_fitted()
    data, columns = flat.to_bytes(), flattening.to_columns(flat, rows)
    loaded = FlatModel.from_bytes(data)
    assert loaded.to_bytes() == data
    assert (loaded.predict(columns) == flat.predict(columns)).all()
    again, _, _ = flat_and_fitted()
    assert again.to_bytes() == data


def parts(data):
    with np.load(io.BytesIO(data)) as arrays:
        arrays = dict(arrays)
    return json.loads(arrays.pop(flat_model.DESCRIPTION).tobytes()), arrays


def joined(about, arrays, save=np.savez):
    text = about if isinstance(about, bytes) else json.dumps(about).encode()
    data = io.BytesIO()
    save(data, **{flat_model.DESCRIPTION: np.frombuffer(text, np.uint8)}, **arrays)
    return data.getvalue()


def edited(path, value):
    """Return the file with another value in its description; `path` leads to it."""
    about, arrays = parts(planted().to_bytes())
    at = about
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return joined(about, arrays)


SIZE, PLAN = ("encoders", 0), ("encoders", 1)
CURVE = (*SIZE, "curves", 0)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("intercept",), float("nan")),
        (("intercept",), "0"),
        (("more",), 1),
        (("encoders",), []),
        (("encoders",), {}),
        (SIZE, 3),
        ((*SIZE, "name"), "plan"),
        ((*SIZE, "name"), 3),
        ((*SIZE, "more"), 3),
        ((*SIZE, "thresholds"), [3.0, 4.0]),
        ((*SIZE, "thresholds"), [float("inf")]),
        ((*SIZE, "thresholds"), ["3"]),
        ((*SIZE, "missing"), None),
        ((*CURVE, "numbers"), []),
        ((*CURVE, "numbers"), [1.0, 0.0]),
        ((*CURVE, "scores"), [1.0]),
        ((*CURVE, "steps"), [1.0]),
        ((*CURVE, "cuts"), [1.0, 2.0, 3.0]),
        ((*CURVE, "weight"), True),
        ((*PLAN, "levels"), ["", ""]),
        ((*PLAN, "levels"), ["", "a", "b"]),
        ((*PLAN, "levels"), ["", 1]),
        ((*PLAN, "seen"), [True]),
        ((*PLAN, "seen"), [1, 0]),
        ((*PLAN, "terms"), [1.0, 2.0]),
        (("calibration",), []),
        (("calibration", "kind"), "spline"),
        (("calibration", "scores"), [1.0, 1.0]),
        (("calibration", "scores"), [0.0]),
        (("calibration", "log_odds"), [0.0]),
        (("calibration", "log_odds"), [0.0, float("inf")]),
    ],
)
def test_description_that_does_not_fit_is_damage(path, value):
    with pytest.raises(Damaged, match="cannot be trusted"):
        FlatModel.from_bytes(edited(path, value))


WRONG_ARRAYS = {
    "a mask too few": lambda arrays: arrays | {"masks8": arrays["masks8"][:-1]},
    "a tree too many": lambda arrays: arrays | {"masks8": arrays["masks8"].repeat(2, axis=1)},
    "masks of other integers": lambda arrays: arrays | {"masks8": arrays["masks8"].astype("i1")},
    "masks without values": lambda arrays: {"masks8": arrays["masks8"]},
    "values without masks": lambda arrays: {"values8": arrays["values8"]},
    "a leaf too few": lambda arrays: arrays | {"values8": arrays["values8"][:, :-1]},
    "a value of a leaf that is not finite": lambda arrays: (
        arrays | {"values8": arrays["values8"] * np.inf}
    ),
    "no tree": lambda arrays: {"masks8": arrays["masks8"][:, :0], "values8": arrays["values8"][:0]},
    "another array": lambda arrays: arrays | {"other": np.zeros(3)},
}


@pytest.mark.parametrize("change", WRONG_ARRAYS.values(), ids=WRONG_ARRAYS)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_arrays_that_do_not_fit_are_damage(change):
    about, arrays = parts(planted().to_bytes())
    with pytest.raises(Damaged, match="cannot be trusted"):
        FlatModel.from_bytes(joined(about, change(arrays)))


def test_other_files_are_damage():
    about, arrays = parts(planted().to_bytes())
    pickled = io.BytesIO()
    np.savez(pickled, description=np.array([{}], dtype=object))
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("description.npy", b"")
        file.writestr("description.npy", b"")
    for data in (
        *(b"", b"PK", b"no zip file", planted().to_bytes()[:-100], pickled.getvalue()),
        *(twice.getvalue(), joined(b"[]", arrays), joined(b"{", arrays), joined(b"\xff", arrays)),
        joined(b"[" * 100_000, arrays),
        joined(about, arrays, np.savez_compressed),
    ):
        with pytest.raises(Damaged, match="cannot be trusted"):
            FlatModel.from_bytes(data)


def test_array_that_claims_a_huge_shape_is_damage():
    header, data = io.BytesIO(), io.BytesIO()
    about = {"descr": "|u1", "fortran_order": False, "shape": (1 << 60,)}
    np.lib.format.write_array_header_1_0(header, about)
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("description.npy", header.getvalue())
    with pytest.raises(Damaged, match="cannot be trusted"):
        FlatModel.from_bytes(data.getvalue())


def test_masks_without_a_leaf_in_common_read_nothing_outside():
    flat = planted()
    empty = FlatModel(
        flat.encoders,
        0.0,
        (Forest(np.zeros_like(flat.forests[0].masks), flat.forests[0].values),),
        flat.calibration,
    )
    loaded = FlatModel.from_bytes(empty.to_bytes())
    columns = {"size": np.array([1.0]), "plan": ["yearly"]}
    assert log_odds(loaded.predict(columns)[0]) == pytest.approx(0.2 - 0.5)
    assert np.isfinite(loaded.explain(columns, {"size": 9.0, "plan": ""})).all()


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_any_changed_byte_is_damage_or_a_model_that_answers(at, change):
    data = bytearray(planted().to_bytes())
    data[at % len(data)] ^= change
    try:
        flat = FlatModel.from_bytes(bytes(data))
    except Damaged:
        return
    columns = {name: np.zeros(1) if name != flat.features[-1] else [""] for name in flat.features}
    assert np.isfinite(flat.predict(columns)).all()
