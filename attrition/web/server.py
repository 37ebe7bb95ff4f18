"""Serve a WSGI app with gunicorn in this process, on a socket that is bound first.

If the port is in use, there is one clear error at once. A connection that sends nothing uses no thread.
"""

import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.workers import gthread

from attrition.errors import AttritionError

THREADS = 8
SILENCE_S = 10
BACKLOG = 256


class Worker(gthread.ThreadWorker):
    """A threaded gunicorn worker whose threads do not wait for the first byte of a connection."""

    def handle(self, conn: gthread.TConn) -> object:
        """Handle a connection, or return it to the poller at once if it has sent nothing yet.

        gunicorn 27 blocks a thread for five seconds first: with 200 silent connections, /health took
        more than two minutes.
        """
        conn.wait_for_data = lambda timeout: gthread.TConn.wait_for_data(conn, 0)
        return super().handle(conn)


class _Server(BaseApplication):
    def __init__(self, load: Callable[[], Any], settings: dict[str, Any]) -> None:
        self._load, self._settings = load, settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return self._load()


def bind(host: str, port: int) -> socket.socket:
    """Listen on host:port.

    Raises: AttritionError if the port is taken or the host is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted connections inherit the timeout, which closes them if they stall within a request.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", SILENCE_S, 0))
    try:
        listener.bind((host.strip("[]"), port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise AttritionError(
            f"{host}:{port}: cannot listen ({reason}); stop the process that uses the port "
            "or choose another one with --port"
        ) from error
    return listener


def serve(load: Callable[[], Any], listener: socket.socket, *, workers: int) -> None:
    """Serve until a signal stops the process; each worker calls `load` once to create the app."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # small inputs: one thread is twice as fast
    settings = {
        "bind": f"fd://{listener.fileno()}",
        "workers": workers,
        "worker_class": Worker,
        "threads": THREADS,
        "timeout": 60,
        "graceful_timeout": 10,
        "keepalive": 5,
        "forwarded_allow_ips": "",
        "secure_scheme_headers": {},
        "control_socket_disable": True,
        "loglevel": "warning",
        "proc_name": "attrition",
    }
    _Server(load, settings).run()
