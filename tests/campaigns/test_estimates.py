"""The intervals of the estimates, compared with what was realised in 200 samples of each size."""

import numpy as np
import pytest

from attrition.monitoring import performance
from tests.monitoring.test_performance import drawn, reference


@pytest.mark.parametrize(("n", "sigma"), [(300, 1.5), (1000, 1.0)])
def test_intervals_cover_what_is_realised_95_times_in_100(n, sigma):
    rng = np.random.default_rng(5)
    checks = []
    for seed in range(200):
        before = reference(1000, 1000 + seed)
        risk, outcome = drawn(n, seed)
        value = rng.lognormal(4, sigma, n)
        found = performance.estimate(risk, value=value, **before)
        checks += performance.check_estimate(found, outcome, risk, value)
    for record in performance.estimate_accuracy(checks):
        assert 0.90 <= record.coverage.value <= 0.985, record
