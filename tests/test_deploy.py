"""deploy/nginx.conf in Debian's nginx, with TLS, before a small server instead of the app."""

from __future__ import annotations

import configparser
import http.client
import shutil
import socket
import ssl
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from core.access import Access
from core.settings import ROOT
from pages import _shelf
from tests.ports import free_port
from tests.waiting import eventually

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
OPENSSL = shutil.which("openssl")
AROUND = """daemon off; master_process off; pid {folder}/pid; error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


class Told(BaseHTTPRequestHandler):
    """Answers with the headers that the proxy sent."""

    def do_GET(self) -> None:
        body = str(self.headers).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", "_streamlit_user=x; HttpOnly; SameSite=Lax")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on the screen."""


@pytest.fixture
def upstream() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Told)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def certificate(folder: Path) -> None:
    """cert.pem and key.pem for localhost, signed by themselves."""
    command = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
        -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
        -keyout {folder}/key.pem -out {folder}/cert.pem"
    subprocess.run([OPENSSL, *command.split()], check=True, capture_output=True)


@pytest.fixture
def proxy(upstream: str, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    with proxied(upstream, tmp_path) as started:
        yield started


@contextmanager
def proxied(upstream: str, folder: Path, name: str = "localhost") -> Iterator[tuple[int, Path]]:
    """(port, certificate) of an nginx before host:port, with its files in ``folder``.

    name: the public one; the certificate is for localhost.
    """
    if OPENSSL is None or not Path(NGINX).exists():
        pytest.skip("There is no nginx or no openssl: apt-get install nginx-light openssl.")
    certificate(folder)
    port, site = free_port(), (ROOT / "deploy" / "nginx.conf").read_text()
    for word, value in {
        "LISTEN": f"127.0.0.1:{port}",
        "SERVER_NAME": name,
        "CERTIFICATE": f"{folder}/cert.pem",
        "KEY": f"{folder}/key.pem",
        "UPSTREAM": upstream,
    }.items():
        site = site.replace(f" {word}", f" {value}").replace(f"//{word}", f"//{value}")
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder))
    command = [NGINX, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0 and "[warn]" not in checked.stderr, checked.stderr
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _await(port, process, folder / "log")
        yield port, folder / "cert.pem"
    finally:
        process.terminate()
        process.wait(60)


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    def answers() -> bool:
        if process.poll() is not None:
            pytest.fail(f"nginx did not start:\n{log.read_text()}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    eventually(answers)


def test_the_proxy_has_tls_headers_and_limits(proxy: tuple[int, Path]) -> None:
    port, trusted = proxy
    context = ssl.create_default_context(cafile=str(trusted))
    connection = http.client.HTTPSConnection("localhost", port, timeout=60, context=context)
    forged = {"X-Forwarded-For": "10.0.0.1", "Upgrade": "websocket", "Connection": "Upgrade"}
    connection.request("GET", "/", headers=forged)
    answer = connection.getresponse()
    sent = answer.read().decode()
    assert answer.status == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=")
    cookie = answer.headers["Set-Cookie"].split("; ")
    assert {c.lower() for c in cookie[1:]} == {"httponly", "samesite=lax", "secure"}
    assert "X-Forwarded-For: 127.0.0.1\n" in sent and "10.0.0.1" not in sent
    assert "X-Forwarded-Proto: https\n" in sent
    assert "Upgrade: websocket\n" in sent and "Connection: upgrade\n" in sent
    connection.close()
    connection.putrequest("PUT", "/_stcore/upload_file/x")
    connection.putheader("Content-Length", str(162 * 2**20))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_a_release_that_the_page_takes_passes_the_server_and_the_proxy() -> None:
    config = tomllib.loads((ROOT / ".streamlit/config.toml").read_text())
    assert config["server"]["maxUploadSize"] == _shelf.MAX_PARCEL_MB
    around = f"client_max_body_size {_shelf.MAX_PARCEL_MB + 1}m;"
    assert around in (ROOT / "deploy/nginx.conf").read_text()


def test_a_session_outlives_a_tablet_that_sleeps_but_no_idle_time():
    """What was dropped and read is in the session's memory alone."""
    server = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["server"]
    assert 600 <= server["disconnectedSessionTTL"] <= 60 * Access().idle_minutes


@pytest.mark.parametrize("name", ["bone.service", "bone-listen.service"])
def test_a_unit_starts_with_a_clock_that_is_right(name: str) -> None:
    """Else what comes first is long past its time as soon as the clock is set."""
    for order in ("After", "Wants"):
        assert "time-sync.target" in unit(name)["Unit"][order].split()


def test_runs_and_batches_outlive_the_unit_and_it_what_they_do_with_memory() -> None:
    service = unit("bone.service")["Service"]
    assert (service["KillMode"], service["OOMPolicy"]) == ("process", "continue")


def unit(name: str) -> configparser.RawConfigParser:
    found = configparser.RawConfigParser(strict=False)
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read(ROOT / "deploy" / name)
    return found
