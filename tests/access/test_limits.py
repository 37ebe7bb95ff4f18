"""Limits of requests and of tries, on a clock that the tests set."""

from attrition.access.limits import MAX_KEYS, FailureDelay, RequestLimit


def test_limit_counts_each_caller_within_a_minute():
    limit = RequestLimit(2)
    assert [limit.take("ann", 130) for _ in range(3)] == [0, 0, 50]
    assert limit.take("bob", 130) == 0
    assert limit.take("ann", 179.5) == 1
    assert limit.take("ann", 180) == 0


def test_without_a_limit_every_request_proceeds():
    limit = RequestLimit(None)
    assert {limit.take("ann", 0) for _ in range(1000)} == {0}


def test_fourth_failure_delays_the_next_try_and_each_more_doubles_it():
    delay, now, waits = FailureDelay(), 1000.0, []
    for _ in range(10):
        delay.fail("ann", "10.0.0.1", now)
        waits.append(delay.wait("ann", "10.0.0.1", now))
        now += waits[-1]
        assert delay.wait("ann", "10.0.0.1", now) == 0
    assert waits == [0, 0, 0, 2, 4, 8, 16, 32, 60, 60]


def test_other_names_from_the_same_address_wait_too_but_nobody_at_another_address():
    delay = FailureDelay()
    for name in ("a", "b", "c", "d"):
        delay.fail(name, "10.0.0.1", 0)
    assert delay.wait("e", "10.0.0.1", 0) == 2
    assert delay.wait("a", "10.0.0.2", 0) == 0


def test_success_forgets_the_failures_of_that_name_only():
    delay = FailureDelay()
    for name in ("ann", "ann", "ann", "ann", "bob"):
        delay.fail(name, "10.0.0.1", 0)
    delay.succeed("bob", "10.0.0.1")
    assert delay.wait("ann", "10.0.0.1", 0) == 2
    assert delay.wait("bob", "10.0.0.1", 0) == 0


def test_failures_are_forgotten_after_a_quarter_of_an_hour():
    delay = FailureDelay()
    for _ in range(9):
        delay.fail("ann", "10.0.0.1", 0)
    delay.fail("ann", "10.0.0.1", 900)
    assert delay.wait("ann", "10.0.0.1", 900) == 0


def test_memory_stays_bounded_whoever_tries():
    delay = FailureDelay()
    for number in range(MAX_KEYS):
        delay.fail("ann", str(number), 0)
    assert len(delay._failures) == MAX_KEYS
