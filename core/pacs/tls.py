"""Encrypted associations: the contexts of PS3.15's BCP 195 profile, from files of the hospital."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import SettingsInvalid


@dataclass(frozen=True)
class Encryption:
    """The two contexts; None where no files were given for one."""

    listening: ssl.SSLContext | None
    calling: ssl.SSLContext | None

    @classmethod
    def of(cls, certificate: Path | None, key: Path | None, authority: Path | None) -> Encryption:
        """certificate, key: both or neither. Raises SettingsInvalid."""
        served = called = None
        if certificate is not None and key is not None:
            served = listening(certificate, key, authority)
        if authority is not None:
            called = calling(authority, certificate, key)
        return cls(served, called)


class _Listening(ssl.SSLContext):
    """pynetdicom shakes hands where it accepts: one silent caller would shut everybody out.

    So the handshake is left to the first read, in the thread of its own association.
    """

    def wrap_socket(self, sock: socket.socket, *args: Any, **named: Any) -> ssl.SSLSocket:
        return super().wrap_socket(sock, *args, **{**named, "do_handshake_on_connect": False})


def listening(certificate: Path, key: Path, authority: Path | None) -> ssl.SSLContext:
    """To be called by others; authority: who must have signed their certificates, None: they need
    none. Raises SettingsInvalid."""
    context = _Listening(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _own(context, certificate, key)
    if authority is not None:
        _trust(context, authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def calling(authority: Path, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """To call an archive: its certificate must be of its host and signed by the authority.

    Raises SettingsInvalid.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _trust(context, authority)
    if certificate is not None and key is not None:
        _own(context, certificate, key)
    return context


def _own(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise SettingsInvalid(
            "The certificate and key for TLS cannot be read, or do not belong together."
        ) from error


def _no_password() -> str:
    """Asked for by an encrypted key; without this, OpenSSL would ask on the terminal and wait."""
    raise ValueError("the key is encrypted")


def _trust(context: ssl.SSLContext, authority: Path) -> None:
    try:
        context.load_verify_locations(authority)
    except OSError as error:
        raise SettingsInvalid("The certificates of --tls-ca cannot be read.") from error
