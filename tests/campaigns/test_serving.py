"""Releases switch and workers die while an app answers: a short form of benchmarks.endurance."""

from benchmarks import endurance


def test_answers_are_right_while_releases_switch_and_workers_die(tmp_path):
    outcome = endurance.endure(
        endurance.make_releases(tmp_path),
        seconds=16,
        connections=16,
        switches=32,
        workers=2,
        sample=1_000,
        slow=100,
        slow_seconds=4,
    )
    assert outcome.errors == []
    assert outcome.differing == 0
    assert len(outcome.sample) > 100
    assert len(outcome.releases) > 2
    assert len(outcome.kills) > 4
    assert outcome.switches >= 30
    assert len(outcome.health_ms) > 0  # each was answered within ten seconds
    assert len({count for _, count in outcome.master}) <= 2
    assert outcome.metric_files[-1] <= 2 * max(outcome.metric_files[:10])
