"""Compare the API with its own description: generated requests, every check of schemathesis.

`python -m benchmarks.contract` asks much longer, with five seeds.
"""

import pytest

from benchmarks import contract


@pytest.mark.parametrize("situation", contract.SITUATIONS)
def test_api_answers_as_it_is_described(finished_folder, situation):
    with contract.served(finished_folder / "config.json", situation) as address:
        outcome = contract.examine(address, situation, seed=1, examples=10)
    assert outcome.failures == 0, outcome.text
    assert outcome.cases > 500
