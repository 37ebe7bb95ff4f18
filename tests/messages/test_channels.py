"""What each channel sends, over real sockets, and that no error contains a secret."""

import html
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


def test_text_is_wrapped_for_a_plain_mail_reader_and_links_stay_whole(tmp_path):
    link = f"https://app.example/?manager={'x' * 80}"
    item = "  Acme:" + 10 * " risk 31\xa0%;"
    content = TEXT | {"text": f"{'word ' * 40}\n\n{item}\nThe list: {link}\n"}
    with smtp_receiver() as box:
        config = mail_config(tmp_path, box.port)
        channels.send(config, "mail", MESSAGE._replace(content=content))
    (envelope,) = box.mails
    assert envelope.content.isascii()  # a server need not take eight bits
    lines = message_from_bytes(envelope.content, policy=policy.default).get_content().splitlines()
    assert [line for line in lines if len(line) > 72] == [link]
    place = lines.index("") + 1
    assert lines[place].startswith("  Acme: ") and lines[place + 1].startswith("    ")
    assert not any(line.startswith("    %") for line in lines)


# ---- webhook


def test_shapes_of_a_webhook(tmp_path):
    with http_receiver() as receiver:
        for shape in ("json", "chat", "teams"):
            config = webhook_config(tmp_path, receiver.url, shape)
            channels.send(config, "webhook", MESSAGE)
    as_json, chat, teams = receiver.bodies
    assert as_json == TEXT | {"id": "alert-1", "at": MESSAGE.at}
    assert chat == {"text": "```\nthe last run *failed*\na &lt;b&gt; &amp; c\nnext\n```"}
    lines = [block["inlines"][0]["text"] for block in body_of(teams)]
    assert lines == [TEXT["subject"], "a <b> & c", "next"]
    assert [headers["Idempotency-Key"] for _, headers, _ in receiver.requests] == ["alert-1"] * 3


NASTY = (
    "<!channel> @all *b* _i_ ~s~ `c` ```d``` <http://x.example|x> [x](http://x.example) # & a@b.c"
)


def test_no_name_is_a_link_a_mention_or_a_format_in_a_chat():
    odd = {"subject": NASTY, "text": f"{NASTY}\n\n{NASTY}"}
    text = channels.as_chat(MESSAGE._replace(content=odd))["text"]
    inside = text.removeprefix("```\n").removesuffix("\n```")
    assert len(text) == len(inside) + 8 and not set("`<>") & set(inside)
    assert html.unescape(inside).splitlines()[0] == NASTY.replace("`", "'")[:60]


@pytest.mark.parametrize("character", ["x", "&", "`", "東", "😀", '"'])
def test_any_message_fits_into_a_chat_and_a_card(character):
    sentence = character * 200
    long = {"subject": sentence, "text": "\n\n".join([sentence] * 200)}
    message = MESSAGE._replace(content=long)
    chat, card = channels.as_chat(message)["text"], channels.as_teams(message)
    assert len(chat) <= 16_383  # of Mattermost; Slack takes 40,000
    assert len(json.dumps(card)) <= 28 << 10
    lines = [block["inlines"][0]["text"] for block in body_of(card)]
    assert lines[0] == sentence and lines[-1] == channels.CUT and len(lines) > 5
    assert channels.CUT in chat


def body_of(message):
    """Return the blocks of an Adaptive Card, after a check by the rules of its schema and of Teams."""
    (attachment,) = message["attachments"]
    assert message["type"] == "message"
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    for block in card["body"]:
        assert {*block} <= {"type", "inlines", "spacing"} and block["type"] == "RichTextBlock"
        for run in block["inlines"]:
            assert {*run} <= {"type", "text", "weight"} and run["type"] == "TextRun"
            assert run["text"] and run.get("weight", "Bolder") == "Bolder"
    return card["body"]


@pytest.mark.parametrize("status", [301, 404, 500])
def test_answer_other_than_2xx_is_a_failure(tmp_path, status):
    with http_receiver() as receiver:
        receiver.status = status
        config = webhook_config(tmp_path, f"{receiver.url}/{SECRET}")
        assert failure(config, "webhook") == f"it answered {status}, expected 2xx"


@pytest.mark.parametrize(
    ("status", "scheme", "reason"),
    [(None, "http", "the connection broke"), (200, "https", "it failed (SSLError)")],
)
def test_connection_that_breaks_is_a_failure(tmp_path, status, scheme, reason):
    with http_receiver() as receiver:
        receiver.status = status
        config = webhook_config(tmp_path, receiver.url.replace("http", scheme))
        assert failure(config, "webhook") == reason


def test_body_of_an_answer_is_not_read(tmp_path):
    with http_receiver() as receiver:
        receiver.size = 100 << 20
        channels.send(webhook_config(tmp_path, receiver.url), "webhook", MESSAGE)
    assert receiver.sent < receiver.size


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
