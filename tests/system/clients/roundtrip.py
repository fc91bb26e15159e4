"""Python's own imaplib and smtplib.LMTP against a node: argv = host imap-port lmtp-port password."""

import imaplib
import smtplib
import sys

host, imap_port, lmtp_port, password = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]


def ok(answer):
    status, data = answer
    assert status == "OK", answer
    return data


def letter(number):
    return (
        f"From: Sender <sender@example.org>\r\nTo: python@example.org\r\nSubject: letter {number}\r\n"
        f"Message-ID: <{number}@example.org>\r\n\r\nLine one of {number}.\r\n..dots\r\n"
    ).encode()


with smtplib.LMTP(host, lmtp_port) as mta:
    for number in range(3):
        # One recipient at a time: smtplib reads one reply only where LMTP gives one for each.
        for recipient in ["python", "python+Work"]:
            assert mta.sendmail("sender@example.org", [recipient], letter(number)) == {}

client = imaplib.IMAP4(host, imap_port)
ok(client.login("python", password))
ok(client.create("Work"))
ok(client.create('"Entw&APw-rfe"'))
ok(client.subscribe("Work"))
assert any(b"Work" in line for line in ok(client.lsub()))
assert ok(client.select("INBOX")) == [b"6"], "both addresses of each letter came to INBOX"
assert ok(client.search(None, "SUBJECT", '"letter 1"'))[0].split() == [b"3", b"4"]
body = ok(client.fetch("1", "(BODY.PEEK[])"))[0][1]
assert body.endswith(letter(0)), body
ok(client.store("1:2", "+FLAGS", "(\\Seen \\Flagged Project-X)"))
assert ok(client.search(None, "FLAGGED", "KEYWORD", "Project-X"))[0].split() == [b"1", b"2"]
ok(client.copy("1", "Work"))
ok(client.append("Work", "\\Draft", None, letter(9)))
ok(client.store("3", "+FLAGS", "\\Deleted"))
assert ok(client.expunge()) == [b"3"]
ok(client.select("Work"))
flags = ok(client.fetch("1:*", "(FLAGS)"))
assert b"Project-X" in flags[0] and b"\\Draft" in flags[1], flags
status = ok(client.status("INBOX", "(MESSAGES UNSEEN UIDNEXT)"))[0]
assert b"MESSAGES 5" in status and b"UNSEEN 3" in status and b"UIDNEXT 7" in status, status
ok(client.close())
ok(client.rename("Work", "Done"))
ok(client.delete("Done"))
client.logout()
