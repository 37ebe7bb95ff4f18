"""Serve a WSGI application with gunicorn, inside this process, on a socket that we bind ourselves.

Binding first means that a taken port is one clear line at once. A worker hands a connection to a
thread only when it has sent something, so that callers who say nothing keep no one waiting.
"""

import logging
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.workers import gthread

from attrition.errors import AttritionError

logger = logging.getLogger(__name__)

THREADS = 8
SILENCE_S = 10
BACKLOG = 256


class Worker(gthread.ThreadWorker):
    """gunicorn's threaded worker, patient with callers who connect and say nothing."""

    def enqueue_req(self, conn: gthread.TConn) -> None:
        """Let the poller, not a thread, wait for the first byte of a new connection.

        gunicorn 27 keeps a thread for five seconds instead: behind 200 silent callers /health took
        more than two minutes, measured; so it takes 0.03 s.
        """
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
            return
        silent: Future[object] = Future()
        silent.set_result(gthread._DEFER)
        self.finish_request(conn, silent)


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

    Raises: AttritionError when the port is taken or the host is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted connections inherit it: whoever falls silent in the middle of a request is let go.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", SILENCE_S, 0))
    try:
        listener.bind((host.strip("[]"), port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise AttritionError(
            f"{host}:{port}: cannot listen ({error.strerror}); stop what holds the port or name "
            "another with --port"
        ) from error
    return listener


def serve(load: Callable[[], Any], listener: socket.socket, *, workers: int) -> None:
    """Run until a signal says to stop; `load` makes the application, once in each worker."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # small inputs: one thread is twice as fast
    settings = {
        "bind": f"fd://{listener.fileno()}",
        "workers": workers,
        "worker_class": Worker,
        "threads": THREADS,
        "preload_app": False,
        "timeout": 60,
        "graceful_timeout": 10,
        "keepalive": 5,
        "limit_request_line": 4094,
        "limit_request_fields": 100,
        "limit_request_field_size": 8190,
        "forwarded_allow_ips": "",
        "secure_scheme_headers": {},
        "control_socket_disable": True,
        "accesslog": None,
        "loglevel": "warning",
        "proc_name": "attrition",
    }
    _Server(load, settings).run()
