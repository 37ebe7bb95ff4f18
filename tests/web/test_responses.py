"""Responses built from records."""

from types import SimpleNamespace

from attrition.web import responses

SCORE = {"sets": {"test": None}, "candidate": {"kind": "scorecard"}, "scored_at": "2026-01-01"}
SCORE |= {"threshold": 0.5, "champion": None, "comparison": None, "warnings": []}
EVENT = {"decided_at": "2026-01-02", "promoted": False, "rule": "refused", "reason": "kept"}
EVENT |= {"release": "r1", "inputs": {}}


def test_scoring_shows_the_newest_event_or_none():
    release = SimpleNamespace(id="r1", score=SCORE)
    answer = responses.scoring(release, [EVENT | {"rule": "rolled_back"}, EVENT])
    assert answer["latest_decision"] == {name: EVENT[name] for name in responses.LATEST}
    assert responses.scoring(release, [])["latest_decision"] is None
    assert answer["sets"] == {}
