import time

import pytest

from attrition.messages import heartbeat
from tests.messages.receivers import http_receiver


def test_start_success_and_failure_are_three_addresses(monkeypatch):
    with http_receiver() as receiver:
        monkeypatch.setenv("CHECK", f"{receiver.url}/uuid?rid=1")
        for ending in (heartbeat.START, "", heartbeat.FAIL):
            assert heartbeat.ping_now("${CHECK}", ending) == ""
    assert receiver.paths == ["/uuid/start?rid=1", "/uuid?rid=1", "/uuid/fail?rid=1"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:9/uuid", "no answer"),
        ("http:///", "no answer"),
        ("${NO_SUCH_CHECK}", "the environment variable NO_SUCH_CHECK is not set"),
    ],
)
def test_lost_ping_is_a_reason_without_the_url(url, reason):
    assert heartbeat.ping_now(url) == reason


def test_refused_ping_has_its_status():
    with http_receiver() as receiver:
        receiver.status = 404
        assert heartbeat.ping_now(receiver.url) == "it answered 404, expected 200"


def test_redirect_is_not_followed_because_a_page_to_sign_in_is_no_heartbeat():
    with http_receiver() as page, http_receiver() as receiver:
        receiver.status, receiver.headers = 302, {"Location": page.url}
        assert heartbeat.ping_now(receiver.url) == "it answered 302, expected 200"
    assert page.requests == []


def test_connection_that_breaks_is_no_answer():
    with http_receiver() as receiver:
        receiver.status = None
        assert heartbeat.ping_now(receiver.url) == "no answer"


def test_pings_arrive_one_after_the_other():
    with http_receiver() as receiver:
        receiver.pause_s, start = 0.1, time.monotonic()
        pings = [heartbeat.ping(receiver.url, ending) for ending in (heartbeat.START, "")]
        for ping in pings:
            ping.join()
        assert time.monotonic() - start >= 0.2
    assert receiver.paths == ["/start", "/"]


def test_slow_answer_is_not_waited_for():
    with http_receiver() as receiver:
        receiver.pause_s = 0.5
        start = time.monotonic()
        heartbeat.ping(receiver.url).join(0.05)
        assert time.monotonic() - start < 0.4
