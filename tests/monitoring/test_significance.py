import numpy as np
import pytest
from scipy import special, stats

from attrition.monitoring import significance


@pytest.mark.parametrize("freedom", [1, 2, 3, 10, 99, 1000])
@pytest.mark.parametrize("statistic", [0.0, 1e-9, 0.5, 20.0, 1500.0])
def test_chi_squared_is_that_of_scipy(statistic, freedom):
    expected = special.chdtrc(freedom, statistic)
    assert significance.chi_squared(statistic, freedom) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("freedom", [1, 2, 3, 10, 101])
@pytest.mark.parametrize("statistic", [0.0, 0.3, -2.5, 40.0, np.inf])
def test_student_t_is_that_of_scipy(statistic, freedom):
    expected = 2 * special.stdtr(freedom, -abs(statistic))
    assert significance.student_t(statistic, freedom) == pytest.approx(expected, abs=1e-12)


def test_statistic_that_is_no_number_has_no_p_value():
    assert np.isnan(significance.student_t(np.nan, 3))


def test_fisher_exact_is_that_of_scipy():
    rng = np.random.default_rng(0)
    for n, m in rng.integers(1, 300, (100, 2)).tolist():
        hits, before = int(rng.integers(0, n + 1)), int(rng.integers(0, min(m, 6) + 1))
        expected = stats.fisher_exact([[before, m - before], [hits, n - hits]]).pvalue
        result = significance.fisher_exact(hits, n, before, m)
        assert result == pytest.approx(expected, rel=1e-9)


def test_benjamini_hochberg_is_that_of_scipy():
    p_values = np.random.default_rng(0).random(40) ** 4
    p_values[5] = p_values[6]
    expected = stats.false_discovery_control(p_values)
    np.testing.assert_allclose(significance.benjamini_hochberg(p_values), expected, rtol=1e-12)
