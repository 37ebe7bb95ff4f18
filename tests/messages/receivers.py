"""Receivers of messages on real sockets: an HTTP server and an SMTP server, each in a thread."""

import json
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult


class Receiver:
    """What an HTTP server got, and how it answers: with a status, after a pause.

    status: None if the connection breaks instead; size: of the body; sent: how much of it was taken
    """

    def __init__(self, url):
        self.url, self.status, self.pause_s, self.requests = url, 200, 0.0, []
        self.headers, self.size, self.sent = {}, 0, 0

    @property
    def bodies(self):
        return [body for _, _, body in self.requests]

    @property
    def paths(self):
        return [path for path, _, _ in self.requests]


@contextmanager
def http_receiver(port=0, context=None):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            receiver.requests.append((self.path, self.headers, json.loads(data or "null")))
            time.sleep(receiver.pause_s)
            if receiver.status is None:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(receiver.status)
            for name, value in {"Content-Length": receiver.size, **receiver.headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            with suppress(OSError):  # the client has closed the connection
                while receiver.sent < receiver.size:
                    receiver.sent += self.wfile.write(bytes(1 << 16))

        do_GET = do_POST

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "https" if context else "http"
    receiver = Receiver(f"{scheme}://localhost:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def make_certificates(folder):
    """Return the TLS context of a server on localhost, and the file of its authority."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    path = folder / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return context, path


class Mailbox:
    """The mails that an SMTP server got; `refused` are addresses that it does not accept."""

    def __init__(self):
        self.mails, self.refused = [], set()

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in self.refused:
            return "550 5.1.1 no such user hunter2"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        self.mails.append(envelope)
        return "250 OK"


@contextmanager
def smtp_receiver(context=None, security="none", user=None, kind=SMTP):
    """Run an SMTP server; user: (name, password) that it asks for; kind: its class."""
    box = Mailbox()

    def check(server, session, envelope, mechanism, given):
        is_right = (given.login.decode(), given.password.decode()) == user
        return AuthResult(success=is_right, handled=is_right)

    with socket.create_server(("127.0.0.1", 0)) as free:
        box.port = free.getsockname()[1]  # the controller connects to its own port
    options = {"hostname": "127.0.0.1", "port": box.port, "authenticator": check if user else None}
    if security == "starttls":
        options |= {"tls_context": context, "require_starttls": True}
    if security == "tls":
        options |= {"ssl_context": context, "auth_require_tls": False}
    must_sign_in = bool(user) and security == "starttls"

    class Server(Controller):
        def factory(self):
            return kind(self.handler, **self.SMTP_kwargs)

    controller = Server(box, auth_required=must_sign_in, **options)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()
