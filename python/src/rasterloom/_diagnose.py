"""Why no server answers at an address, found out by trying."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from rasterloom.connection import TLS

SECONDS = 2.0
ENCRYPTED = {"http": "https", "grpc": "grpc+tls", "grpc+tcp": "grpc+tls"}
NO_CERTIFICATE = "it wants to see a certificate of ours: rl.connect(tls=rl.TLS(certificate=…, key=…))"
PLAIN = {encrypted: plain for plain, encrypted in reversed(ENCRYPTED.items())}


def why_unreachable(url: str, tls: TLS | None = None) -> str:
    """Say in half a sentence why nothing answers at ``url``, and what would help.

    gRPC says of all of this only that a server is unavailable.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme in PLAIN else 80)
    try:
        with socket.create_connection((host, port), SECONDS) as plain:
            if parts.scheme in PLAIN:
                return _why_not_by_tls(plain, host, parts.scheme, tls)
            return _why_not_plain(plain, host, parts.scheme)
    except socket.gaierror:
        return f"no machine is known by the name {host!r}"
    except TimeoutError:
        return f"nothing came back within {SECONDS:g} s"
    except OSError:
        return (
            "nothing listens there. Start one with `rasterloom up`, "
            "or name another by rl.connect(url=…) or the environment variable RASTERLOOM_URL"
        )


def _why_not_plain(plain: socket.socket, host: str, scheme: str) -> str:
    anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    try:
        with anyone.wrap_socket(plain, server_hostname=host):
            return f"what listens there speaks TLS, so its address begins with {ENCRYPTED[scheme]}://"
    except (ssl.SSLError, OSError):
        return "what listens there does not speak gRPC, or is just starting or stopping"


def _why_not_by_tls(plain: socket.socket, host: str, scheme: str, tls: TLS | None) -> str:
    context = ssl.create_default_context(cafile=None if tls is None else tls.ca)
    context.set_alpn_protocols(["h2"])
    if tls is not None and tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    try:
        with context.wrap_socket(plain, server_hostname=host) as encrypted:
            # Only after the handshake a server of TLS 1.3 says that it missed a
            # certificate of ours, or just hangs up. One that is content speaks first.
            if not encrypted.recv(1) and (tls is None or tls.certificate is None):
                return NO_CERTIFICATE
    except ssl.SSLCertVerificationError as error:
        return (
            f"its certificate is not trusted ({error.verify_message}); rl.connect(tls=…) says by which file it would be"
        )
    except ssl.SSLError as error:
        if "CERTIFICATE" in (error.reason or ""):
            return NO_CERTIFICATE
        return f"what listens there does not speak TLS; without, its address begins with {PLAIN[scheme]}://"
    except TimeoutError:
        pass
    return "what listens there does not speak gRPC, or is just starting or stopping"
