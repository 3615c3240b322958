"""``python -m core listen``: radiographs from the network or a folder, results to the worklist."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import math
import os
import re
import signal
import socket
import threading
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from core.commands import _options
from core.errors import SettingsInvalid
from core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from ssl import SSLContext

    from pynetdicom.transport import ThreadedAssociationServer

    from core.pacs.inbox import Inbox
    from core.pacs.outbox import Outbox, Send
    from core.pacs.scoring import StudyScorer
    from core.pacs.tls import Encryption

log = logging.getLogger(__name__)
HELP = "receive radiographs from a PACS or a folder and put the results on the worklist"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen at (default: this machine alone)")
    add("--port", type=int, default=11112, help="port to listen at; 0 takes a free one")
    add("--aet", default="BONE", help="AE title of this program")
    add(
        "--allow",
        action="append",
        default=[],
        metavar="AET",
        help="AE title of an accepted sender; repeat it for each",
    )
    add(
        "--quiet",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="wait after the last view of a study before assessing it",
    )
    add(
        "--send-to",
        action="append",
        default=[],
        metavar="AET@HOST:PORT[:tls]",
        help="destination of the results, or a URL of STOW-RS; repeat it for each",
    )
    add(
        "--sign-for",
        metavar="ORGANISATION",
        help="send final reports that readers sign for this organisation",
    )
    add(
        "--sign-after",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="wait after a decision before signing",
    )
    add("--tls-cert", type=Path, metavar="PEM", help="certificate, to encrypt associations")
    add("--tls-key", type=Path, metavar="PEM", help="its private key, without a password")
    add("--tls-ca", type=Path, metavar="PEM", help="CA certificates that others are checked by")
    add("--reserve", type=float, default=1024, metavar="MB", help="disk space to keep free")
    add("--training-copies", type=Path, metavar="DIR", help="folder for de-identified copies")
    add("--folder", type=Path, metavar="DIR", help="watch a folder instead of the network")
    _options.device(parser)


def run(options: argparse.Namespace, settings: Settings) -> int:
    from core.pacs import sender
    from core.pacs.inbox import KEEP_SECONDS, Inbox, alone
    from core.pacs.outbox import Outbox

    encryption = _checked(options)
    _keep_values_out_of_the_log()
    stop = threading.Event()
    # Until there is something that must be ended in order; what was answered for is on the disk.
    # An exception in the middle of torch's import may be lost there, or end in a crash.
    _on_signal(lambda: os._exit(0))
    home = settings.home / "pacs"
    with alone(home):
        kept = min(KEEP_SECONDS, 86400.0 * (settings.retention_days or math.inf))
        inbox, outbox = Inbox(home / "inbox", kept), Outbox(home / "outbox")
        send = partial(
            sender.send,
            calling=options.aet,
            tls=encryption.calling,
            authorization=settings.stow_authorization,
        )
        if options.folder:
            return _run(options, settings, inbox, outbox, send, stop)
        server = _listen(options, settings, inbox, encryption.listening)
        try:
            return _run(options, settings, inbox, outbox, send, stop)
        finally:
            server.shutdown()


def _checked(options: argparse.Namespace) -> Encryption:
    """Everything that can be wrong with the options, before anything is begun."""
    from core.pacs import sender
    from core.pacs.tls import Encryption

    peers = [sender.peer(destination) for destination in options.send_to]
    for title in (options.aet, *options.allow):
        if not re.fullmatch(r"[ -\[\]-~]{1,16}", title) or not title.strip():
            raise SettingsInvalid(
                f"{title!r} is no AE title: it has 1 to 16 letters, digits and signs of ASCII, and "
                "no backslash."
            )
    if any("," in title for title in options.allow):
        raise SettingsInvalid(
            "--allow takes one AE title; repeat it for each sender: --allow CR1 --allow CR2."
        )
    if not 0 <= options.port <= 65535:
        raise SettingsInvalid(f"There is no port {options.port}.")
    for name in ("quiet", "sign_after", "reserve"):
        if not 0 <= getattr(options, name) < math.inf:
            raise SettingsInvalid(f"--{name.replace('_', '-')} is a number from 0 on.")
    if bool(options.tls_cert) != bool(options.tls_key):
        raise SettingsInvalid("TLS needs both --tls-cert and --tls-key.")
    if any(p is not None and p.tls for p in peers) and not options.tls_ca:
        raise SettingsInvalid("To send with TLS, name who signs certificates with --tls-ca.")
    if options.sign_for is not None and not (options.sign_for.strip() and options.send_to):
        raise SettingsInvalid("--sign-for needs an organisation, and --send-to.")
    if options.folder and not options.folder.is_dir():
        raise SettingsInvalid("The folder to watch does not exist.")
    if not options.folder and not options.allow and not _is_loopback(options.host):
        raise SettingsInvalid("To listen to other machines, name the senders with --allow AET.")
    return Encryption.of(options.tls_cert, options.tls_key, options.tls_ca)


def _on_signal(act: Callable[[], object]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: act())


def _keep_values_out_of_the_log() -> None:
    """pydicom and highdicom quote what they find odd, and that may be a name."""
    warnings.filterwarnings("ignore")
    for name in ("pydicom", "highdicom", "pynetdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _listen(
    options: argparse.Namespace, settings: Settings, inbox: Inbox, context: SSLContext | None
) -> ThreadedAssociationServer:
    from core.pacs.listener import Door, serve

    door = Door(
        host=options.host,
        port=options.port,
        aet=options.aet,
        allowed=tuple(options.allow),
        reserve=int(options.reserve * 2**20),
        max_bytes=settings.limits.max_bytes,
        tls=context,
    )
    try:
        server = serve(door, inbox, settings.home)
    except socket.gaierror as error:
        raise SettingsInvalid(f"There is no address of the name {options.host!r}.") from error
    except OSError as error:
        raise SettingsInvalid(f"Port {options.port} is taken or may not be used.") from error
    assert server.socket is not None
    host, port = server.socket.getsockname()[:2]
    print(f"{options.aet} listens at {host}:{port}", flush=True)
    return server


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _run(
    options: argparse.Namespace,
    settings: Settings,
    inbox: Inbox,
    outbox: Outbox,
    send: Send,
    stop: threading.Event,
) -> int:
    from core.pacs import service
    from core.pacs.polls import following, purge
    from core.pacs.scoring import superseded_in, teller
    from core.pacs.service import every
    from core.store import PURGE_SECONDS

    polls = [_folder(options.folder, settings, inbox)] if options.folder else []
    scorer = _scorer(options, settings, outbox)
    if options.sign_for:
        polls.append(_signing(options, settings, scorer))
    _on_signal(stop.set)
    for name, count in outbox.destinations().items():
        if name not in options.send_to:
            log.warning(
                "%d objects wait for %s, which --send-to does not name; they are still sent there. "
                "docs/pacs.md says how to give them another destination.",
                count,
                name,
            )
    polls.append(following(scorer, settings))
    polls.append(every(PURGE_SECONDS, partial(purge, scorer.store, settings)))
    tell, superseded = teller(scorer.store), superseded_in(scorer.store)
    sending = threading.Thread(
        target=service.keep_sending, args=(outbox, send, stop, tell, superseded), daemon=True
    )
    sending.start()
    service.work(inbox, scorer, options.quiet, stop, polls)
    sending.join(5)
    return 0


def _folder(path: Path, settings: Settings, inbox: Inbox) -> Callable[[], object]:
    from core.pacs.folder import WatchedFolder

    folder = WatchedFolder(path, settings.home / "pacs" / "taken.jsonl", settings.limits)
    print("watching the folder", flush=True)
    return lambda: folder.poll(inbox)


def _signing(
    options: argparse.Namespace, settings: Settings, scorer: StudyScorer
) -> Callable[[], object]:
    from core.pacs.polls import when_decided
    from core.pacs.service import every
    from core.pacs.signing import Signing
    from core.registry import release_of

    signing = Signing(
        scorer.store,
        scorer.outbox,
        settings.limits,
        tuple(options.send_to),
        options.sign_for.strip(),
        settings.home / "pacs" / "signed.jsonl",
        partial(release_of, settings.weights),
        options.sign_after,
    )
    return every(5.0, when_decided(scorer.store, signing.poll, options.sign_after))


def _scorer(options: argparse.Namespace, settings: Settings, outbox: Outbox) -> StudyScorer:
    """Loaded after the door is open: what arrives in the meantime is on the disk already."""
    from core.engines import choice
    from core.pacs.deidentify import TrainingCopies
    from core.pacs.scoring import StudyScorer
    from core.store import Store

    copies = None
    if options.training_copies:
        copies = TrainingCopies(options.training_copies, settings.home / "pacs" / "key")
    return StudyScorer(
        choice.load(settings),
        Store.open(settings),
        outbox,
        settings.limits,
        tuple(options.send_to),
        copies,
    )
