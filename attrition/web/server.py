"""Serve a WSGI app with gunicorn in this process, on a socket that listens already.

A worker's main loop receives requests and sends answers without blocking. A thread gets a request only
when it is complete, so threads never wait for the network.
"""

import errno
import json
import logging
import os
import re
import selectors
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from typing import Any

from gunicorn import glogging, http
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.http import errors
from gunicorn.http.unreader import Unreader
from gunicorn.workers import gthread

from attrition.operations import log
from attrition.web.middleware import API_POLICY, HEADERS, MAX_BODY_BYTES

logger = logging.getLogger(__name__)

THREADS = 8
GRACEFUL_S = 10
# Per worker. A process can often open only 1,024 files, and it needs some for other things.
CONNECTIONS = 800
# For the head and the body of a request together, from its first byte.
REQUEST_S = 20
# For an answer, plus a second for each SEND_BYTES of it.
SEND_S, SEND_BYTES = 20, 50_000
# Without a byte, on a new connection and between two requests.
SILENCE_S = 5
# For the client to read the last answer before the connection closes (RFC 9112, section 9.6).
LINGER_S = 2
ACCEPT_DELAY_S = 0.001
RECEIVE_BYTES = 65_536
HEAD_BYTES = 65_536
PIECE_BYTES = 8_192
CHUNK_LINE_BYTES = 8_190
# gunicorn reads 100,000 chunks of one byte in half a second.
MAX_CHUNKS = 20_000
# Requests and answers that one worker keeps in memory.
BUFFERED_BYTES = 128 << 20

BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}(?=[ \t]*;|$)")
REASONS = {
    400: ("Bad Request", "bad_request", "the request cannot be read as HTTP/1.1"),
    408: ("Request Timeout", "timeout", f"the request was not complete after {REQUEST_S} seconds"),
    414: ("URI Too Long", "too_large", "the address is too long"),
    417: (
        "Expectation Failed",
        "bad_request",
        "the only value supported in the header Expect is 100-continue",
    ),
    431: ("Request Header Fields Too Large", "too_large", "the headers are too large"),
    500: ("Internal Server Error", "internal_error", "internal error; the log has the details"),
    501: ("Not Implemented", "not_implemented", "the only transfer coding supported is chunked"),
    503: ("Service Unavailable", "busy", "too many large requests at once; try again"),
}
STATUSES: dict[type[Exception], int] = {
    errors.InvalidResponseHeader: 500,
    errors.InvalidResponseHeaderName: 500,
    errors.LimitRequestLine: 414,
    errors.ExpectationFailed: 417,
    errors.LimitRequestHeaders: 431,
    errors.UnsupportedTransferCoding: 501,
}


def error_answer(status: int) -> bytes:
    """Return and log the complete answer to a request that did not reach the app."""
    request_id = uuid.uuid4().hex[:16]
    log.log_request(request_id=request_id, status=status)
    reason, code, sentence = REASONS[status]
    body = json.dumps({"error": sentence, "code": code}).encode()
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        "X-Request-Id": request_id,
        "Content-Security-Policy": API_POLICY,
        **HEADERS,
    }
    if status == 503:
        headers["Retry-After"] = "1"
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} {reason}\r\n{head}\r\n".encode() + body


class Refused(Exception):
    """A request that is refused before it is complete."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Incoming:
    """The bytes of a request so far, and where it ends.

    gunicorn's parser decides what the bytes mean. If it expects more bytes than have arrived, it refuses
    the request.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.body_at = 0  # 0 = the head has not ended
        self.end: int | None = None  # None = the body comes in chunks, the next one at chunk_at
        self.chunk_at = self.chunk_bytes = self.chunks = 0
        self.is_whole = False
        self.is_continue_expected = False

    def add(self, data: bytes) -> bool:
        """Add bytes that have arrived; return whether the request is ready for a thread.

        A request is also ready if its head or a chunk is malformed or too large: the parser or the app
        refuses it. Then `is_whole` is false.

        Raises: Refused if the head is too large or not HTTP.
        """
        searched = max(len(self.data) - 3, 0)
        self.data += data
        if not self.body_at and not self._read_head(searched):
            return False
        if self.end is None:
            return self._read_chunks()
        self.is_whole = len(self.data) >= self.end
        return self.is_whole or self.end - self.body_at > MAX_BODY_BYTES

    def _read_head(self, searched: int) -> bool:
        start = 2 if self.data.startswith(b"\r\n") else 0  # RFC 9112, section 2.2
        first = self.data[start : start + 1]
        end = self.data.find(b"\r\n\r\n", max(searched, start))
        if max(end, 0 if end >= 0 else len(self.data)) > HEAD_BYTES:
            raise Refused(431 if b"\r\n" in self.data[start:HEAD_BYTES] else 414)
        if first and first != b"\r" and not first.isalpha():
            raise Refused(400)
        if end < 0:
            if BARE_LINE_FEED.search(self.data, searched):
                raise Refused(400)
            return False
        self.body_at = self.chunk_at = end + 4
        fields: dict[bytes, list[bytes]] = {}
        for line in bytes(self.data[start:end]).split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            fields.setdefault(name.lower(), []).append(value.strip().lower())
        self.is_continue_expected = fields.get(b"expect") == [b"100-continue"]
        length, coding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
        if coding == [b"chunked"] and length is None:
            return True
        is_readable = coding is None and (length is None or len(length) == 1)
        digits = length[0] if length and is_readable else b"0"
        # Otherwise the parser refuses the head; int() reads no more digits.
        self.end = self.body_at + (int(digits) if re.fullmatch(rb"\d{1,4300}", digits) else 0)
        return True

    def _read_chunks(self) -> bool:
        for _ in range(self.chunks, MAX_CHUNKS):
            rest = len(self.data) - self.chunk_at
            if self.chunk_bytes + min(rest, 0) > MAX_BODY_BYTES:
                return True
            if len(self.data) - self.body_at > 2 * MAX_BODY_BYTES:  # most of it chunk extensions
                return True
            line_end = self.data.find(b"\r\n", self.chunk_at, self.chunk_at + CHUNK_LINE_BYTES)
            if line_end < 0:
                return rest >= CHUNK_LINE_BYTES
            size = CHUNK_SIZE.match(self.data, self.chunk_at, line_end)
            if size is None:
                return True
            if not (count := int(size[0], 16)):
                self.is_whole = self.data.find(b"\r\n\r\n", line_end) >= 0
                return self.is_whole or len(self.data) - line_end > HEAD_BYTES
            self.chunk_at = line_end + 2 + count + 2
            self.chunk_bytes += count
            self.chunks += 1
        return True


class Received(Unreader):
    """The source of a parser: the bytes that have arrived.

    gunicorn's own sources copy the rest of the data with each read, that is, with each chunk.
    """

    def __init__(self) -> None:
        super().__init__()
        self.data, self.at = b"", 0

    def read(self, size: int | None = None, read_ahead: int | None = None) -> bytes:
        if size is None and self.at >= len(self.data):
            raise errors.InvalidRequestLine("the request ended early")
        size = max(PIECE_BYTES, read_ahead or 0) if size is None else size
        part = self.data[self.at : self.at + size]
        self.at += len(part)
        return part

    def unread(self, data: bytes) -> None:
        self.data, self.at = bytes(data) + self.data[self.at :], 0

    def take_buffered(self) -> bytes:
        rest, self.data, self.at = self.data[self.at :], b"", 0
        return rest


class Output:
    """The socket that gunicorn sees: it keeps an answer for the main loop."""

    def __init__(self) -> None:
        self.data = bytearray()

    def sendall(self, data: bytes) -> None:
        self.data += data

    def shutdown(self, _how: int) -> None:
        """Let gunicorn abort an answer after an exception."""
        raise OSError(errno.ENOTCONN, "the main loop closes the connection")

    def close(self) -> None:
        """Leave it to the main loop."""


class Connection:
    """A connection with the data that it receives and sends, and its deadline."""

    def __init__(self, cfg: Any, connected: socket.socket, client: Any, server: Any) -> None:
        connected.setblocking(False)
        self.socket, self.client, self.server = connected, client, server
        self.sock = Output()
        self.parser = http.get_parser(cfg, iter(()), client)
        self.parser.unreader = Received()
        self.incoming = Incoming()
        self.is_last = False  # no request follows
        self.deadline = 0.0
        self.buffered = 0


class Worker(gthread.ThreadWorker):
    """A threaded gunicorn worker whose threads never wait for the network.

    In gunicorn 27, sixteen clients that send a byte every four seconds keep the threads busy for a
    minute, and one that does not close its connection blocks the main loop for two seconds.
    """

    slot: int

    def init_process(self) -> None:
        # The connections that wait for the network, oldest first, with their callbacks.
        self.waiting: dict[Connection, Callable[[Connection], None]] = {}
        self.buffered = 0
        self.looked_at = 0.0
        super().init_process()

    # ---- the main loop

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if not self.alive:  # gunicorn would let clients connect until the last request has ended
            for listener in self.sockets:
                listener.close()

    def accept(self, listener: socket.socket) -> None:
        if (
            self.nr_conns
        ):  # let a worker without connections be first: they stay where they were accepted
            time.sleep(ACCEPT_DELAY_S)
        try:
            connected, client = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE) and self.waiting:
                self._close(next(iter(self.waiting)))
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                raise
            return
        self.nr_conns += 1
        connection = Connection(self.cfg, connected, client, listener.getsockname())
        self._receive(connection)
        if len(self.waiting) > CONNECTIONS - 2 * THREADS:
            self._close(next(iter(self.waiting)))

    def _wait(
        self,
        connection: Connection,
        event: int,
        callback: Callable[[Connection], None],
        seconds: float,
    ) -> None:
        connection.deadline = time.monotonic() + seconds
        self.waiting[connection] = callback

        def go_on(_socket: socket.socket) -> None:
            # An earlier event of the same poll may have closed the connection.
            if self.waiting.get(connection) is callback:
                callback(connection)

        self.poller.register(connection.socket, event, go_on)

    def _stop_waiting(self, connection: Connection) -> None:
        if connection in self.waiting:
            del self.waiting[connection]
            self.poller.unregister(connection.socket)

    def _close(self, connection: Connection) -> None:
        self._stop_waiting(connection)
        self.buffered -= connection.buffered
        self.nr_conns -= 1
        connection.socket.close()

    def _count(self, connection: Connection, count: int) -> None:
        self.buffered += count - connection.buffered
        connection.buffered = count

    def _receive(self, connection: Connection) -> None:
        """Receive what has arrived of a request; if it is complete, give it to a thread."""
        try:
            data = connection.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            data = None
        except OSError:
            return self._close(connection)
        if data == b"":
            if not connection.incoming.data:
                return self._close(connection)
            connection.is_last = True
            return self._start(connection)
        return self._add(connection, data or b"")

    def _add(self, connection: Connection, data: bytes) -> None:
        incoming = connection.incoming
        is_first = not incoming.data
        try:
            is_ready = bool(data) and incoming.add(data)
        except Refused as refused:
            return self._refuse(connection, refused.status)
        self._count(connection, len(incoming.data))
        if is_ready:
            return self._start(connection)
        if self.buffered > BUFFERED_BYTES and len(incoming.data) > HEAD_BYTES:
            return self._refuse(connection, 503)
        if incoming.body_at and incoming.is_continue_expected:
            incoming.is_continue_expected = False
            try:
                connection.socket.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            except OSError:
                return self._close(connection)
        if connection not in self.waiting:
            self._wait(connection, selectors.EVENT_READ, self._receive, SILENCE_S)
        if data and is_first:
            connection.deadline = time.monotonic() + REQUEST_S
        return None

    def _start(self, connection: Connection) -> None:
        """Give a request to a thread; after an incomplete one the connection cannot be used again."""
        self._stop_waiting(connection)
        incoming, connection.incoming = connection.incoming, Incoming()
        connection.is_last |= not incoming.is_whole
        connection.parser.unreader.unread(incoming.data)
        self.enqueue_req(connection)

    def finish_request(self, conn: Connection, fs: Future[bool]) -> None:
        conn.is_last |= fs.cancelled() or fs.exception() is not None or not fs.result()
        self._send(conn)

    def _refuse(self, connection: Connection, status: int) -> None:
        self._stop_waiting(connection)
        connection.is_last = True
        connection.sock.sendall(error_answer(status))
        self._send(connection)

    def _send(self, connection: Connection) -> None:
        """Send as much of an answer as the socket accepts, and wait until it accepts the rest."""
        output = connection.sock.data
        try:
            del output[: connection.socket.send(output)]
        except BlockingIOError:
            pass
        except OSError:
            return self._close(connection)
        self._count(connection, len(output) + len(connection.parser.unreader.data))
        if output:
            if connection not in self.waiting:
                if self.buffered > BUFFERED_BYTES and len(output) > HEAD_BYTES:
                    return self._close(connection)
                seconds = SEND_S + len(output) / SEND_BYTES
                self._wait(connection, selectors.EVENT_WRITE, self._send, seconds)
            return None
        self._stop_waiting(connection)
        if connection.is_last:
            return self._linger(connection)
        return self._add(connection, connection.parser.unreader.take_buffered())

    def _linger(self, connection: Connection) -> None:
        """Close a connection when the client has read the answer; closing at once may lose its end."""
        try:
            connection.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return self._close(connection)
        self._wait(connection, selectors.EVENT_READ, self._drop, LINGER_S)

    def _drop(self, connection: Connection) -> None:
        try:
            is_open = bool(connection.socket.recv(RECEIVE_BYTES))
        except BlockingIOError:
            return
        except OSError:
            is_open = False
        if not is_open:
            self._close(connection)

    def murder_keepalived(self, force: bool = False) -> None:
        """Close connections that are past their deadline; gunicorn calls this after each event."""
        now = time.monotonic()
        if now < self.looked_at + 0.5 and not force:
            return
        self.looked_at = now
        # A worker that stops waits a second for the next request on a connection.
        early = 0 if self.alive else SILENCE_S - 1
        for connection in list(self.waiting):
            is_receiving = bool(connection.incoming.data)
            if force or now > connection.deadline - (0 if is_receiving else early):
                if is_receiving:
                    self._refuse(connection, 408)
                else:
                    self._close(connection)

    # ---- a thread

    def handle(self, conn: Connection) -> bool:
        """Answer a request; return whether the connection can carry another one."""
        is_kept = self._answer(conn)
        output = conn.sock.data
        with suppress(OSError):  # the main loop sends the rest
            del output[: conn.socket.send(output)]
        return is_kept

    def _answer(self, conn: Connection) -> bool:
        req = None
        try:
            req = next(conn.parser)
            req._expected_100_continue = False  # the main loop sent it
            if conn.is_last:
                req.force_close()
            return bool(self.handle_request(req, conn) and conn.parser.finish_body())
        except StopIteration:
            pass  # the app aborted its answer
        except Exception as error:
            if not conn.sock.data:
                self.handle_error(req, conn.sock, conn.client, error)
        return False

    def handle_error(self, req: Any, client: Output, addr: Any, exc: Exception) -> None:
        """Answer a request that the parser refuses, or that fails outside the app."""
        status = STATUSES.get(type(exc), 400 if isinstance(exc, errors.ParseException) else 500)
        if status == 500:
            logger.error("a request failed in the server", exc_info=exc)
        client.sendall(error_answer(status))


class _Logger(glogging.Logger):
    """Send gunicorn's log to our handlers."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


def give_slot(master: Arbiter, worker: Worker) -> None:
    """Give a new worker the lowest number that no living worker has."""
    taken = {other.slot for other in master.WORKERS.values()}
    worker.slot = next(slot for slot in count() if slot not in taken)


def name_slot(_master: Arbiter, worker: Worker) -> None:
    os.environ["ATTRITION_WORKER_SLOT"] = str(worker.slot)


class _Server(BaseApplication):
    def __init__(self, load: Callable[[], Any], settings: dict[str, Any]) -> None:
        self._load, self._settings = load, settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return self._load()


def serve(load: Callable[[], Any], listener: socket.socket, *, workers: int) -> None:
    """Serve until a signal stops the process; each worker calls `load` once to create the app.

    Each worker has a slot number, ATTRITION_WORKER_SLOT, which the one that replaces it inherits. All
    share the folder PROMETHEUS_MULTIPROC_DIR, which is removed when this process ends.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # small inputs: one thread is twice as fast
    settings = {
        "bind": f"fd://{listener.detach()}",
        "workers": workers,
        "worker_class": Worker,
        "worker_connections": CONNECTIONS,
        "threads": THREADS,
        "timeout": 60,
        "graceful_timeout": GRACEFUL_S,
        "keepalive": SILENCE_S,
        "sendfile": False,
        "forwarded_allow_ips": "",
        "secure_scheme_headers": {},
        "control_socket_disable": True,
        "loglevel": "warning",
        "logger_class": _Logger,
        "pre_fork": give_slot,
        "post_fork": name_slot,
        "proc_name": "attrition",
    }
    master = os.getpid()
    folder = tempfile.mkdtemp(prefix="attrition-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    try:
        _Server(load, settings).run()
    finally:
        if os.getpid() == master:
            shutil.rmtree(folder, ignore_errors=True)
