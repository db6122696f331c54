"""A certificate authority of a test's own, with a certificate each for an engine and its clients; used by
testing.docker and the tests of engines behind TLS."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID = datetime.timedelta(days=2)


class Authority:
    """Whoever is given a certificate finds it in a directory, with its key and the authority's own certificate, by the
    names that docker reads: ``ca.pem``, ``cert.pem`` and ``key.pem``."""

    def __init__(self, name: str) -> None:
        self._name = _named(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        signed = _dated(self._name, self._name, self._key)
        self._certificate = signed.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(
            self._key, SHA256()
        )

    def engine(self, directory: Path) -> None:
        """For whoever listens at 127.0.0.1."""
        at = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        self._give(directory, "engine", at, ExtendedKeyUsageOID.SERVER_AUTH)

    def client(self, directory: Path) -> None:
        at = x509.SubjectAlternativeName([x509.DNSName("client")])
        self._give(directory, "client", at, ExtendedKeyUsageOID.CLIENT_AUTH)

    def _give(self, directory: Path, name: str, at: x509.SubjectAlternativeName, usage: x509.ObjectIdentifier) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _dated(_named(name), self._name, key)
            .add_extension(at, critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .sign(self._key, SHA256())
        )
        directory.mkdir(exist_ok=True)
        (directory / "ca.pem").write_bytes(self._certificate.public_bytes(Encoding.PEM))
        (directory / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        written = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (directory / "key.pem").write_bytes(written)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _dated(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _VALID)
        .not_valid_after(now + _VALID)
    )
