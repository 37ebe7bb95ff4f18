"""Send a message by mail, to a webhook, or into a file.

A message is a dict with subject, text, event and perhaps alerts, see `alerts.describe`. No error quotes
an answer, an address or a setting, because each may contain a secret.
"""

import json
import os
import smtplib
import socket
import ssl
import stat
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from html import escape
from itertools import accumulate
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

from attrition.config import Config, Mail
from attrition.environment import NotSet, resolve
from attrition.errors import AttritionError
from attrition.storage import files

Content = Mapping[str, Any]

TIMEOUT_S = 30  # of each read: some mail servers let a caller wait on purpose
PORTS = {"starttls": 587, "tls": 465, "none": 25}
# Teams takes 28 KB, Mattermost 16,383 characters, Slack 40,000; a line of a card has some 75 bytes more.
MAX_BYTES, BLOCK_BYTES = 16_000, 75
CUT = "The rest is too long for this message: see /health."


class NotDelivered(AttritionError):
    """A message that its receiver has not accepted; the text contains no secret."""


class Message(NamedTuple):
    """A message to one receiver; `id` is the same at each attempt, so that a receiver can drop repeats.

    recipients: addresses of a mail, separated by commas; "" for the other channels
    """

    id: str
    at: str
    recipients: str
    content: Content


# ---- mail


def send_mail(config: Config, message: Message) -> str:
    """Send one mail to all of its recipients; return a note if the server refused some of them.

    Raises: NotDelivered if the server accepts none of them.
    """
    if config.mail is None:
        raise NotDelivered("config.json no longer has the key mail")
    mail = format_mail(config.mail, message)
    with closing(_connect(config.mail)) as server:
        refused = server.send_message(mail)
        with suppress(smtplib.SMTPException, OSError):  # the mail is accepted
            server.putcmd("quit")
    return f"the server refused {len(refused)} of the recipients" if refused else ""


def format_mail(settings: Mail, message: Message) -> EmailMessage:
    """Return the mail in seven bits, which every server takes; its Message-ID is that of the message."""
    mail = EmailMessage(policy=SMTP.clone(cte_type="7bit"))
    mail["From"], mail["To"] = settings.sender, message.recipients
    mail["Subject"] = " ".join(_printable(message.content["subject"]).split())
    mail["Date"] = format_datetime(datetime.fromisoformat(message.at))
    mail["Message-ID"] = f"<{message.id}@{settings.sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"  # no out-of-office replies, see RFC 3834
    lines = _printable(message.content["text"]).splitlines()
    mail.set_content("".join(f"{_wrap(line)}\n" for line in lines))
    return mail


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _wrap(line: str) -> str:
    """Break a long line as plain mail readers show it, but no address, and not at a no-break space."""
    indent = "    " if line.startswith("  ") else ""
    wrapped = fill(
        line, 72, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return wrapped.replace("\xa0", " ")


def _connect(settings: Mail) -> smtplib.SMTP:
    """Return a connection, encrypted and signed in as the settings ask."""
    port, context = settings.port or PORTS[settings.security], ssl.create_default_context()
    name = socket.gethostname()  # by default it is looked up, which may take long
    server: smtplib.SMTP
    if settings.security == "tls":
        server = smtplib.SMTP_SSL(settings.host, port, name, timeout=TIMEOUT_S, context=context)
    else:
        server = smtplib.SMTP(settings.host, port, name, timeout=TIMEOUT_S)
    try:
        if settings.security == "starttls":
            server.starttls(context=context)
        if settings.user and settings.password:
            server.login(resolve(settings.user), resolve(settings.password))
    except BaseException:
        server.close()
        raise
    return server


# ---- webhook


def send_webhook(config: Config, message: Message) -> str:
    """Send a message as JSON; any answer but 2xx is a failure.

    Raises: NotDelivered; what `requests` raises.
    """
    import requests

    webhook = config.alerts.webhook if config.alerts else None
    if webhook is None:
        raise NotDelivered("config.json no longer has the key alerts.webhook")
    with requests.post(
        resolve(webhook.url),
        json=SHAPES[webhook.shape](message),
        headers={"Idempotency-Key": message.id},
        timeout=TIMEOUT_S,
        allow_redirects=False,
        stream=True,  # the body of the answer is not read
    ) as answer:
        if not 200 <= answer.status_code < 300:
            raise NotDelivered(f"it answered {answer.status_code}, expected 2xx")
    return ""


def as_json(message: Message) -> dict[str, Any]:
    return {"id": message.id, "at": message.at, **message.content}


def as_chat(message: Message) -> dict[str, Any]:
    """Return the body for Slack and Mattermost: preformatted, so that no name is a link or a mention.

    Source: https://api.slack.com/reference/surfaces/formatting#escaping
    """
    lines = [_wrap(line.replace("`", "'")) for line in _first_lines(message.content)]
    return {"text": escape("\n".join(["```", *lines, "```"]), quote=False)}


def as_teams(message: Message) -> dict[str, Any]:
    """Return an Adaptive Card; text runs, unlike text blocks, contain no Markdown.

    Source: https://adaptivecards.io/explorer/RichTextBlock.html
    """
    runs = [{"type": "TextRun", "text": line} for line in _first_lines(message.content) if line]
    runs[0]["weight"] = "Bolder"
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [{"type": "RichTextBlock", "inlines": [run]} for run in runs],
    }
    kind = "application/vnd.microsoft.card.adaptive"
    return {"type": "message", "attachments": [{"contentType": kind, "content": card}]}


def _first_lines(content: Content) -> list[str]:
    """Return the lines that fit into a message of each service, and a note if some do not."""
    lines = [content["subject"], *content["text"].splitlines()]
    sizes = accumulate(len(json.dumps(escape(line, quote=False))) + BLOCK_BYTES for line in lines)
    kept = [line for line, size in zip(lines, sizes, strict=True) if size <= MAX_BYTES]
    return kept if len(kept) == len(lines) else [*kept, CUT]


SHAPES = {"json": as_json, "chat": as_chat, "teams": as_teams}


# ---- file


def append_line(config: Config, message: Message) -> str:
    """Append a message to the file of `alerts.file`, as one line of JSON.

    Raises: NotDelivered.
    """
    if not config.alerts or not config.alerts.file:
        raise NotDelivered("config.json no longer has the key alerts.file")
    path = Path(config.file.parent, config.alerts.file)
    line = json.dumps(as_json(message), sort_keys=True).encode() + b"\n"
    descriptor = files.open_to_append(path, flags=os.O_NONBLOCK)
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise NotDelivered("it is not a regular file")
        if os.write(descriptor, line) < len(line):
            os.ftruncate(descriptor, about.st_size)
            raise NotDelivered("the disk is full")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return ""


# ---- all of them

MAIL, WEBHOOK, FILE = "mail", "webhook", "file"
Send = Callable[[Config, Message], str]
SEND: dict[str, Send] = {MAIL: send_mail, WEBHOOK: send_webhook, FILE: append_line}


def of_alerts(config: Config) -> dict[str, str]:
    """Return the channels that alerts use, and the recipients of each; "" if the channel has none."""
    if (alerts := config.alerts) is None:
        return {}
    is_used = {MAIL: alerts.recipients, WEBHOOK: alerts.webhook, FILE: alerts.file}
    recipients = {MAIL: ", ".join(alerts.recipients)}
    return {channel: recipients.get(channel, "") for channel, used in is_used.items() if used}


def send(config: Config, channel: str, message: Message) -> str:
    """Send a message by a channel; return a note if a part of it failed, else "".

    Raises: NotDelivered, whatever goes wrong.
    """
    try:
        return SEND[channel](config, message)
    except NotDelivered:
        raise
    except NotSet as error:
        raise NotDelivered(str(error)) from None
    except Exception as error:
        raise NotDelivered(_reason(error)) from None


def _reason(error: BaseException) -> str:
    """Describe an error without its text, by that of the connection if it is behind it.

    >>> _reason(smtplib.SMTPAuthenticationError(535, b"5.7.8 hunter2 is wrong"))
    'the server answered 535 (SMTPAuthenticationError)'
    """
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the server answered {error.smtp_code} ({type(error).__name__})"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = sorted({code for code, _ in error.recipients.values()})
        return f"the server refused every recipient ({', '.join(map(str, codes))})"
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate is not valid"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return "the name of the host is not known"
    if isinstance(error, ConnectionResetError | BrokenPipeError | smtplib.SMTPServerDisconnected):
        return "the connection broke"
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ssl.SSLError):
        return error.strerror.lower()
    return f"it failed ({type(error).__name__})"
