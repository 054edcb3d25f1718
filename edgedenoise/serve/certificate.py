"""A certificate that this machine signs itself, for HTTPS on the local network.

Browsers warn about it once per device, because no authority vouches for it. Cameras, threads of WebAssembly and the
offline mode of the app need HTTPS, except on localhost.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from typing import TYPE_CHECKING, NamedTuple

import platformdirs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgedenoise.atomic import write_bytes
from edgedenoise.errors import OutputError
from edgedenoise.system_errors import reason_and_hint

if TYPE_CHECKING:
    from pathlib import Path

_VALID_DAYS = 365
_RENEW_DAYS = 30


class Certificate(NamedTuple):
    """Paths of a certificate and its key, as PEM."""

    certificate: Path
    key: Path


def own_certificate(names: set[str], folder: Path | None = None) -> Certificate:
    """Return a certificate for names and addresses of this machine, which is kept for later servers.

    It is kept so that a phone that has accepted it once does not warn again. It is made anew when it is about to
    expire, or when a name is missing.

    Args:
        names: host names and IP addresses.
        folder: where it is kept; None for the user's data folder.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = folder or platformdirs.user_data_path("edgedenoise") / "serve"
    kept = Certificate(folder / "certificate.pem", folder / "key.pem")
    if not _covers(kept, names):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason, hint = reason_and_hint(error, folder)
            raise OutputError(f"{folder} cannot be made: {reason}", hint=hint) from error
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        kept.key.unlink(missing_ok=True)
        descriptor = os.open(kept.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(private)
        write_bytes(kept.certificate, _signed(key, names).public_bytes(serialization.Encoding.PEM))
    return kept


def _covers(kept: Certificate, names: set[str]) -> bool:
    """Return whether a kept certificate is valid for all names, for some time to come, and belongs to its key."""
    try:
        certificate = x509.load_pem_x509_certificate(kept.certificate.read_bytes())
        key = serialization.load_pem_private_key(kept.key.read_bytes(), None)
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    known = {str(one.value) for one in alternatives}
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=_RENEW_DAYS)
    fits = certificate.public_key() == key.public_key()
    return fits and names <= known and certificate.not_valid_after_utc > soon


def _signed(key: ec.EllipticCurvePrivateKey, names: set[str]) -> x509.Certificate:
    now = datetime.datetime.now(datetime.timezone.utc)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edgedenoise on this machine")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName([_alternative(one) for one in sorted(names)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
