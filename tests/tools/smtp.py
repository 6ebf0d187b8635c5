#!/usr/bin/env python3
"""A mail server for tests: smtp.py FOLDER MODE PORT, with MODE starttls, implicit or plain.

It makes a certificate for localhost (FOLDER/ca.pem is the authority, kept for the next start), takes the user `marbre` with the password in
FOLDER/password, wants to be greeted with a full name or an address, writes each mail to FOLDER/N.eml, and answers what FOLDER/answer says where that is there: `451 busy`.
Prints "ready" when it listens.
"""
import pathlib
import ssl
import sys
import threading

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult


class Mailbox:
    def __init__(self, folder):
        self.folder, self.number = folder, len(list(folder.glob("*.eml")))

    def answer(self):
        path = self.folder / "answer"
        return path.read_text().strip() if path.exists() else None

    async def handle_RCPT(self, server, session, envelope, address, options):
        # As Postfix does with reject_non_fqdn_helo_hostname.
        if "." not in session.host_name.strip("[]"):
            return f"504 5.5.2 <{session.host_name}>: Helo command rejected: need fully-qualified hostname"
        if "unknown" in address:
            return f"550 5.1.1 <{address}> is not known here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if self.answer():
            return self.answer()
        self.number += 1
        rest = self.folder / "new"
        rest.write_bytes(f"X-To: {','.join(envelope.rcpt_tos)}\r\n".encode() + envelope.content)
        rest.rename(self.folder / f"{self.number}.eml")
        return "250 taken"


def main():
    folder, mode, port = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    cert, key = folder / "ca.pem", folder / "ca.key"
    if cert.exists():
        authority = trustme.CA.from_pem(cert.read_bytes(), key.read_bytes())
    else:
        authority = trustme.CA()
        authority.private_key_pem.write_to_path(key)
        authority.cert_pem.write_to_path(cert)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    password = (folder / "password").read_text().strip().encode()

    def authenticate(server, session, envelope, mechanism, data):
        good = getattr(data, "login", None) == b"marbre" and data.password == password
        return AuthResult(success=good, handled=False)

    class Server(Controller):
        def factory(self):
            secure = mode != "plain"
            return SMTP(
                self.handler, hostname="localhost", authenticator=authenticate, auth_required=secure,
                auth_require_tls=mode == "starttls", require_starttls=mode == "starttls",
                tls_context=context if mode == "starttls" else None,
            )

    Server(Mailbox(folder), hostname="127.0.0.1", port=port,
           ssl_context=context if mode == "implicit" else None).start()
    print("ready", flush=True)
    threading.Event().wait()


main()
