"""What each channel sends, over real sockets, and that no error contains a secret."""

import json
import os
import resource
from email import message_from_bytes, policy

import pytest
from aiosmtpd.smtp import SMTP

from attrition.messages import channels
from attrition.messages.channels import Message, NotDelivered
from tests.conftest import write_config
from tests.messages.receivers import http_receiver, make_certificates, smtp_receiver

TEXT = {
    "event": "opened",
    "subject": "the last run *failed*",
    "text": "a <b> & c\nnext",
    "alerts": [],
}
MESSAGE = Message("alert-1", "2026-03-01T10:00:00Z", "ann@example.com, bob@example.com", TEXT)
SECRET = "hunter2"


@pytest.fixture
def trusted(tmp_path, monkeypatch):
    """The TLS context of a server whose certificate is trusted."""
    context, path = make_certificates(tmp_path)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, str(path))
    return context


def mail_config(folder, port, **more):
    server = {"host": "localhost", "port": port, "sender": "run@example.com"}
    return write_config(folder, mail=server | {"security": "none"} | more)


def webhook_config(folder, url, shape="json"):
    return write_config(folder, alerts={"webhook": {"url": url, "shape": shape}})


def failure(config, channel):
    with pytest.raises(NotDelivered) as error:
        channels.send(config, channel, MESSAGE)
    assert SECRET not in repr(error.value)
    return str(error.value)


# ---- mail


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_is_sent_encrypted_and_signed_in(tmp_path, trusted, monkeypatch, security):
    monkeypatch.setenv("MAIL_PASSWORD", SECRET)
    signed_in = {"security": security, "user": "joe", "password": "${MAIL_PASSWORD}"}
    with smtp_receiver(trusted, security, ("joe", SECRET)) as box:
        config = mail_config(tmp_path, box.port, **signed_in)
        assert channels.send(config, "mail", MESSAGE) == ""
        monkeypatch.setenv("MAIL_PASSWORD", f"{SECRET}3")
        assert "535" in failure(config, "mail")
        monkeypatch.delenv("MAIL_PASSWORD")
        assert failure(config, "mail") == "the environment variable MAIL_PASSWORD is not set"
    (envelope,) = box.mails
    assert envelope.rcpt_tos == ["ann@example.com", "bob@example.com"]
    mail = message_from_bytes(envelope.content, policy=policy.default)
    assert (mail["Subject"], mail["Message-ID"]) == (TEXT["subject"], "<alert-1@example.com>")
    assert mail["Date"].startswith("Sun, 01 Mar 2026 10:00:00")
    assert mail.get_content().splitlines() == TEXT["text"].splitlines()


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_server_with_an_unknown_certificate_gets_nothing(tmp_path, security):
    context, _ = make_certificates(tmp_path)
    with smtp_receiver(context, security) as box:
        config = mail_config(tmp_path, box.port, security=security)
        assert failure(config, "mail") == "its certificate is not valid"
    assert box.mails == []


def test_server_without_encryption_gets_nothing_if_it_is_asked_for(tmp_path):
    with smtp_receiver() as box:
        failure(mail_config(tmp_path, box.port, security="starttls"), "mail")
    assert box.mails == []


def test_mail_that_some_recipients_do_not_get_is_delivered_with_a_note(tmp_path):
    with smtp_receiver() as box:
        config = mail_config(tmp_path, box.port)
        box.refused = {"bob@example.com"}
        note = channels.send(config, "mail", MESSAGE)
        box.refused |= {"ann@example.com"}
        assert failure(config, "mail") == "the server refused every recipient (550)"
    assert note == "the server refused 1 of the recipients"
    assert [mail.rcpt_tos for mail in box.mails] == [["ann@example.com"]]


def test_text_with_any_characters_is_sent(tmp_path):
    odd = TEXT | {"subject": "Ü\r\nBcc: eve@example.com", "text": "東京 \udcff\n.\n"}
    with smtp_receiver() as box:
        channels.send(mail_config(tmp_path, box.port), "mail", MESSAGE._replace(content=odd))
    mail = message_from_bytes(box.mails[0].content, policy=policy.default)
    assert (mail["Subject"], mail["Bcc"]) == ("Ü Bcc: eve@example.com", None)
    assert mail.get_content().splitlines() == ["東京 \\udcff", "."]


def test_mail_is_delivered_whatever_the_server_answers_to_the_end(tmp_path):
    class Rude(SMTP):
        async def smtp_QUIT(self, _):
            await self.push("421 too busy")
            self.transport.close()

    with smtp_receiver(kind=Rude) as box:
        assert channels.send(mail_config(tmp_path, box.port), "mail", MESSAGE) == ""
    assert len(box.mails) == 1


# ---- webhook


def test_shapes_of_a_webhook(tmp_path):
    with http_receiver() as receiver:
        for shape in ("json", "chat", "teams"):
            config = webhook_config(tmp_path, receiver.url, shape)
            channels.send(config, "webhook", MESSAGE)
    as_json, chat, teams = receiver.bodies
    assert as_json == TEXT | {"id": "alert-1", "at": MESSAGE.at}
    assert chat == {"text": "the last run *failed*\na &lt;b&gt; &amp; c\nnext"}
    (attachment,) = teams["attachments"]
    card = attachment["content"]
    assert (teams["type"], card["type"]) == ("message", "AdaptiveCard")
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    lines = [block["inlines"][0]["text"] for block in card["body"]]
    assert lines == [TEXT["subject"], "a <b> & c", "next"]
    assert [headers["Idempotency-Key"] for _, headers, _ in receiver.requests] == ["alert-1"] * 3


@pytest.mark.parametrize("status", [301, 404, 500])
def test_answer_other_than_2xx_is_a_failure(tmp_path, status):
    with http_receiver() as receiver:
        receiver.status = status
        config = webhook_config(tmp_path, f"{receiver.url}/{SECRET}")
        assert failure(config, "webhook") == f"it answered {status}, expected 2xx"


def test_url_is_taken_from_the_environment(tmp_path, monkeypatch):
    config = webhook_config(tmp_path, "${HOOK}")
    assert failure(config, "webhook") == "the environment variable HOOK is not set"
    with http_receiver() as receiver:
        monkeypatch.setenv("HOOK", f"{receiver.url}/{SECRET}")
        channels.send(config, "webhook", MESSAGE)
    assert receiver.paths == [f"/{SECRET}"]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/hunter2", "http://no.invalid/hunter2", "${URL}"]
)
def test_errors_quote_no_url(tmp_path, monkeypatch, url):
    monkeypatch.setenv("URL", f"no url {SECRET}")
    assert failure(webhook_config(tmp_path, url), "webhook")


def test_webhook_with_a_certificate_of_a_known_authority_gets_it_and_no_other(tmp_path, trusted):
    with http_receiver(context=trusted) as receiver:
        channels.send(webhook_config(tmp_path, receiver.url), "webhook", MESSAGE)
    other, _ = make_certificates(tmp_path.parent)
    with http_receiver(context=other) as stranger:
        config = webhook_config(tmp_path, stranger.url)
        assert failure(config, "webhook") == "its certificate is not valid"
    assert (len(receiver.requests), len(stranger.requests)) == (1, 0)


# ---- file


def test_file_gets_a_line_for_each_message(tmp_path):
    config = write_config(tmp_path, alerts={"file": "alerts.jsonl"})
    for _ in range(2):
        channels.send(config, "file", MESSAGE)
    lines = (tmp_path / "alerts.jsonl").read_text().splitlines()
    assert [json.loads(line)["subject"] for line in lines] == [TEXT["subject"]] * 2
    assert (tmp_path / "alerts.jsonl").stat().st_mode & 0o007 == 0


def test_file_that_cannot_be_written_is_a_failure(tmp_path):
    config = write_config(tmp_path, alerts={"file": "sourcedata"})
    assert failure(config, "file") == "is a directory"


def test_line_that_does_not_fit_on_the_disk_leaves_the_file_as_it_was(tmp_path):
    config = write_config(tmp_path, alerts={"file": "alerts.jsonl"})
    channels.send(config, "file", MESSAGE)
    path = tmp_path / "alerts.jsonl"
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
    try:
        failure(config, "file")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before


def test_a_pipe_is_no_file_and_gets_nothing(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    config = write_config(tmp_path, alerts={"file": "pipe"})
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert "is not a regular file" in failure(config, "file")
    assert os.read(reader, 10) == b""
    os.close(reader)
