"""The tables of all assessed clients."""

import numpy as np

from attrition.assessing import outputs
from attrition.data.cells import Caution


def test_caution_on_the_time_is_behind_that_on_the_unit_and_before_all_others():
    unit, unseen = Caution("other_unit", "spend"), Caution("unseen", "plan")
    own = [[unit, unseen], [unseen], [unseen]]
    is_long_ago = np.array([True, True, False])
    added = outputs.add_last_seen(own, ["2024-05-01T08:00:00Z", "2024-05-02", ""], is_long_ago)
    first, second = (Caution("last_seen", value=day) for day in ("2024-05-01", "2024-05-02"))
    assert added == [[unit, first, unseen], [second, unseen], [unseen]]
