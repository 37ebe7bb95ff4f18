"""Ping a URL when a run begins and ends, so that somebody else notices a machine that is dead.

Standard library only, imported when needed: a run that finds nothing new pings, too. A proxy is taken
from the environment. Source: https://healthchecks.io/docs/http_api/, "/start" and "/fail".
"""

import threading
from urllib.parse import urlsplit

from attrition.environment import NotSet, resolve

TIMEOUT_S = 10
_one_at_a_time = threading.Lock()  # a start that arrived after the end would count as a run at work
START, FAIL = "/start", "/fail"


def with_ending(url: str, ending: str) -> str:
    """Add an ending to the path of a URL.

    >>> with_ending("https://hc.example/uuid?rid=1", "/fail")
    'https://hc.example/uuid/fail?rid=1'
    """
    parts = urlsplit(url)
    return parts._replace(path=parts.path.rstrip("/") + ending).geturl()


def ping(setting: str, ending: str = "") -> threading.Thread:
    """Ping in the background; the caller waits as long as it can. A lost ping is noticed at the URL.

    setting: the URL as config.json has it
    """

    def ping_next() -> None:
        with _one_at_a_time:
            ping_now(setting, ending)

    thread = threading.Thread(target=ping_next, daemon=True)
    thread.start()
    return thread


def ping_now(setting: str, ending: str = "") -> str:
    """Ping a URL; return why that failed, without the URL, "" if it was answered."""
    import http.client
    import urllib.error
    import urllib.request

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        """A redirect is an error: where it leads, such as a page to sign in, counts no runs."""

        def redirect_request(self, *_: object) -> None:
            return None

    try:
        url = with_ending(resolve(setting), ending)
        urllib.request.build_opener(NoRedirect).open(url, timeout=TIMEOUT_S).close()
    except NotSet as error:
        return str(error)
    except urllib.error.HTTPError as error:
        return f"it answered {error.code}, expected 200"
    except (OSError, ValueError, http.client.HTTPException):
        return "no answer"
    return ""
