"""Who may do what, decided without Streamlit: addresses, roles, and when a session is over.

The app is made for one workstation and listens on its loopback address. Where it can be reached
from elsewhere, nothing is shown before somebody signed in, unless BONE_OPEN_WITHOUT_LOGIN says so.
"""

from __future__ import annotations

import ipaddress
import math
import os
import threading
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from core.errors import AccessRefused, SettingsInvalid
from core.settings import given, number

OPEN = "BONE_OPEN_WITHOUT_LOGIN"
OPEN_MEANS = "anybody-on-the-network"
LONGEST_SIGN_IN_HOURS = 12.0
RESERVED = ("listener", "program", "system", "local", "unnamed")
"""Actors of the audit that are no person's names, or stand for who gave none."""
MOST_SIGN_INS = 10_000  # that are remembered, and as many sessions


class Role(StrEnum):
    """What a person may do; each may do what stands before it, too."""

    READER = "reader"  # read radiographs, decide, export
    TRAINER = "trainer"  # start and stop training
    ADMIN = "admin"  # change which release is used

    def covers(self, needed: Role) -> bool:
        """Whether somebody of this role may do what ``needed`` may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True)
class Access:
    """The rules of one process.

    BONE_ROLES_CLAIM: the claim of the identity token that lists roles. BONE_READERS,
    BONE_TRAINERS, BONE_ADMINS: e-mail addresses or subjects, separated by commas.
    BONE_IDLE_MINUTES: after how long without a click a signed-in session ends.
    BONE_OPEN_WITHOUT_LOGIN: must be "anybody-on-the-network" to serve other addresses without a
    login. BONE_SESSION_MEGABYTES, BONE_PROCESS_MEGABYTES: what uploads may take.
    """

    claim: str = "roles"
    people: tuple[tuple[Role, frozenset[str]], ...] = ()
    idle_minutes: float = 30.0
    open: bool = False
    session_bytes: int = 1000 * 2**20
    process_bytes: int = 4000 * 2**20

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Access:
        """Read and validate; raises SettingsInvalid with the variable's name."""
        environment = given(environment)
        wish = environment.get(OPEN, "")
        if wish not in ("", OPEN_MEANS):
            raise SettingsInvalid(f"{OPEN} must be {OPEN_MEANS!r} or not be set.")
        default = cls()
        return cls(
            claim=environment.get("BONE_ROLES_CLAIM", default.claim),
            people=tuple((r, _names(environment.get(f"BONE_{r.upper()}S", ""))) for r in Role),
            idle_minutes=number(environment, "BONE_IDLE_MINUTES", default.idle_minutes),
            open=bool(wish),
            session_bytes=_megabytes(environment, "BONE_SESSION_MEGABYTES", default.session_bytes),
            process_bytes=_megabytes(environment, "BONE_PROCESS_MEGABYTES", default.process_bytes),
        )

    def check_address(self, address: str | None, proxied: bool, login: bool) -> None:
        """Raise AccessRefused where the app can be reached from elsewhere and knows no login.

        address: what the server listens on; None is every address. proxied: whether a request came
        through a proxy, which makes a loopback address reachable. login: whether OIDC is set up.
        """
        if login or self.open or (is_loopback(address) and not proxied):
            return
        raise AccessRefused(
            "This program can be reached from other computers and has no login, so it shows "
            "nothing. Set up a login as described in SECURITY.md."
        )

    def role_of(self, claims: Mapping[str, Any]) -> Role | None:
        """The highest role that a signed-in person has by claim or by list; None for none.

        An e-mail address counts where the provider calls it verified or leaves that open.
        """
        named = claims.get(self.claim) or ()
        told = {named} if isinstance(named, str) else {str(n) for n in named}
        names = {str(claims.get("sub", "")).casefold(), _address(claims).casefold()} - {""}
        held = [r for r in Role if r.value in told]
        held += [r for r, people in self.people if people & names]
        return max(held, key=list(Role).index, default=None)

    def is_idle(self, last: float, now: float) -> bool:
        """Whether a session without a click since ``last`` is over; seconds of one clock."""
        return now - last > 60 * self.idle_minutes


_SignIn = tuple[str, float | None]  # the subject, and when the provider's token was issued


class SignIns:
    """When somebody of each sign-in last clicked, and the sessions that were let in with it.

    A session ends with its tab, the cookie of its sign-in does not: so it is the sign-in that is
    idle, in whatever tab and after whatever reload. Times are seconds since 1970. Thread-safe.
    """

    def __init__(self, most: int = MOST_SIGN_INS) -> None:
        self._most = most
        self._last: dict[_SignIn, float] = {}
        self._sessions: dict[str, _SignIn] = {}
        self._ended: dict[str, None] = {}  # sessions, in their order
        self._lock = threading.Lock()

    def is_over(self, claims: Mapping[str, Any], access: Access, now: float) -> bool:
        """Whether somebody must sign in again: idle, signed out elsewhere, or for too long here.

        Of a sign-in that is not known, as after a restart, the last click is when it was issued.
        """
        with self._lock:
            return is_stale(claims, now) or self._is_idle(_sign_in(claims), access, now)

    def let_in(self, session: str, claims: Mapping[str, Any], now: float) -> None:
        """Remember a session; that it begins counts as a click."""
        with self._lock:
            if session in self._sessions:
                return
            _make_room(self._sessions, self._most)
            self._sessions[session] = _sign_in(claims)
            self._ended.pop(session, None)
            self._click(_sign_in(claims), now)

    def clicked(self, session: str, access: Access, now: float) -> bool:
        """Note what somebody did in a session; False where it has ended, or its sign-in is over, as
        in ``is_over``: it does not come back by a click."""
        with self._lock:
            found = self._sessions.get(session)
            if found is None:  # nobody was let in, or not any more
                return session not in self._ended
            if is_stale({"iat": found[1]}, now) or self._is_idle(found, access, now):
                return False
            self._click(found, now)
            return True

    def knows(self, session: str) -> bool:
        """Whether the session was let in, and its sign-in has not ended."""
        with self._lock:
            found = self._sessions.get(session)
            return found is not None and self._last.get(found) != -math.inf

    def has_ended(self, claims: Mapping[str, Any]) -> bool:
        """Whether somebody signed out of it, in whatever tab, or it was idle there."""
        with self._lock:
            return self._last.get(_sign_in(claims)) == -math.inf

    def end(self, session: str, claims: Mapping[str, Any]) -> None:
        """End a session, and its sign-in in all other tabs."""
        with self._lock:
            found = self._sessions.pop(session, None) or _sign_in(claims)
            self._ended.pop(session, None)
            _make_room(self._ended, self._most)
            self._ended[session] = None  # the tab may send what was clicked until it hears of it
            if found[1] is None:  # else this person could never come back
                self._last.pop(found, None)
            else:
                self._click(found, -math.inf)

    def _click(self, found: _SignIn, now: float) -> None:
        self._last.pop(found, None)
        _make_room(self._last, self._most)
        self._last[found] = now

    def _is_idle(self, found: _SignIn, access: Access, now: float) -> bool:
        issued = now if found[1] is None else found[1]
        return access.is_idle(self._last.get(found, issued), now)


def _sign_in(claims: Mapping[str, Any]) -> _SignIn:
    return str(claims.get("sub", "")), _issued(claims)


def _make_room(kept: dict[Any, Any], most: int) -> None:
    """For one more: what nobody has touched for the longest time goes."""
    while len(kept) >= most:
        del kept[next(iter(kept))]


def name_of(claims: Mapping[str, Any]) -> str:
    """Whose name stands beside what somebody does: a verified e-mail address, else the subject."""
    return _address(claims) or str(claims.get("sub") or "unknown")


def may_be_called(name: str) -> bool:
    """Whether a reader may say to be this: no name of the program's own, and one line of text."""
    control = {"Cc", "Cs", "Zl", "Zp"}
    return name.strip().casefold() not in RESERVED and not any(
        unicodedata.category(c) in control for c in name
    )


def _address(claims: Mapping[str, Any]) -> str:
    """The e-mail address; "" where there is none, or it is said to be anything but verified."""
    # Some providers write the claim as text.
    verified = str(claims.get("email_verified", True)).casefold() == "true"
    return str(claims.get("email") or "") if verified else ""


def is_loopback(address: str | None) -> bool:
    """Whether only this computer reaches an address; None (every address) is not."""
    if address is None:
        return False
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return address == "localhost"


def is_stale(claims: Mapping[str, Any], now: float) -> bool:
    """Whether somebody signed in so long ago that they must again; now: seconds since 1970."""
    issued = _issued(claims)
    return issued is not None and now - issued > 3600 * LONGEST_SIGN_IN_HOURS


def _issued(claims: Mapping[str, Any]) -> float | None:
    """When the provider issued the token, in seconds since 1970."""
    issued = claims.get("iat")
    return float(issued) if isinstance(issued, (int, float)) else None


def check_room(size: int, session: Iterable[int], process: Iterable[int], access: Access) -> None:
    """Raise AccessRefused where one more upload of ``size`` bytes is too much; sizes in bytes."""
    if sum(session) + size > access.session_bytes:
        raise AccessRefused("This session holds too many files; remove some of them first.")
    if sum(process) + size > access.process_bytes:
        raise AccessRefused("There is no room for more files at the moment; try again later.")


def _names(text: str) -> frozenset[str]:
    return frozenset(n.strip().casefold() for n in text.split(",") if n.strip())


def _megabytes(environment: Mapping[str, str], name: str, default: int) -> int:
    return int(number(environment, name, default / 2**20) * 2**20)
