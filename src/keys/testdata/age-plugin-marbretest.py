#!/usr/bin/env python3
"""An age plugin for tests, which keeps no secret: its stanza holds the file key itself.
Protocol: https://c2sp.org/age-plugin"""
import sys


def read():
    """A stanza: its words, and its body (lines of 64, up to a shorter one)."""
    words, body = sys.stdin.readline().split()[1:], [sys.stdin.readline().strip()]
    while len(body[-1]) == 64:
        body.append(sys.stdin.readline().strip())
    return words, "\n".join(body)


def send(words, body=""):
    print(f"-> {words}\n{body}", flush=True)


received = []
while not received or received[-1][0][0] != "done":
    received.append(read())
for words, body in received:
    # "Zm9v" is the Base64 of a message to the person.
    if words[0] == "wrap-file-key":
        send("msg", "Zm9v"), read()
        send("recipient-stanza 0 marbretest", body), read()
    if words[:1] == ["recipient-stanza"] and words[2] == "marbretest":
        send("file-key 0", body), read()
send("done")
