"""A replica of a TCP service, as somebody would write it: it says who it is and what it was told of the user, and then
echoes. ECHO_TLS is a certificate to serve by, ECHO_TOLD says that the user's address comes first, in a line."""

import os
import socketserver
import ssl

PORT = int(os.environ["PORT_7"])  # what rota.yaml calls 7


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        told = self.line() if "ECHO_TOLD" in os.environ else b"-"
        self.request.sendall(b"%s %s\n" % (os.environ["ROTA_REPLICA"].encode(), told))
        while said := self.request.recv(1000):
            self.request.sendall(said)

    def line(self):
        """Whole, and nothing that comes behind it; a check of the port alone says nothing."""
        text = b""
        while not text.endswith(b"\n"):
            byte = self.request.recv(1)
            if not byte:
                raise SystemExit
            text += byte
        return text.strip()


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256

    def get_request(self):
        request, address = super().get_request()
        return (TLS.wrap_socket(request, True, do_handshake_on_connect=False) if TLS else request), address

    def handle_error(self, request, client_address):
        """Who only looks whether somebody listens is no error."""


TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if "ECHO_TLS" in os.environ else None
if TLS:
    TLS.load_cert_chain(os.environ["ECHO_TLS"])
Server(("0.0.0.0", PORT), Echo).serve_forever()
