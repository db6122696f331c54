"""Certificates of tests: signed by nobody but themselves, or by an authority of the test's own; for servers and clients
of tests, and for testing.docker's engine."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID = datetime.timedelta(days=2)


def self_signed(directory: Path, name: str) -> Path:
    """A file with a key and its certificate for a host's name."""
    key, subject = ec.generate_private_key(ec.SECP256R1()), _named(name)
    at = x509.SubjectAlternativeName([x509.DNSName(name)])
    certificate = _dated(subject, subject, key).add_extension(at, critical=False).sign(key, SHA256())
    path = directory / f"{name}.pem"
    path.write_bytes(_written(key) + certificate.public_bytes(Encoding.PEM))
    return path


def serving(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def trusting(*certificates: Path) -> ssl.SSLContext:
    """A client that believes these and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for certificate in certificates:
        context.load_verify_locations(certificate)
    return context


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
        (directory / "key.pem").write_bytes(_written(key))


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


def _written(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
