"""The HTTP server of the mini-web on loopback: eight sites, with good and bad responses."""

from __future__ import annotations

import errno
import mimetypes
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TextIO
from urllib.parse import quote, unquote, urlsplit

from .web import HOSTS

HTML = b"<!doctype html><title>Sorry</title><p>This picture has moved on.</p>\n"
PAUSE_S, CHUNKS = 0.3, 4


class CannotServe(RuntimeError):
    """The server cannot listen on an address; the message explains how to fix it."""


@dataclass
class Server:
    """The running mini-web; `requests` is the number of requests so far."""

    port: int
    www: Path
    log: Path
    requests: int = 0
    _stream: TextIO | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, path: str, site: int = 0) -> str:
        """Return the URL of `path` on one of the sites."""
        return f"http://{HOSTS[site]}:{self.port}/{path.lstrip('/')}"

    def log_request(self, line: str) -> None:
        """Write one line of the access log."""
        with self._lock:
            self.requests += 1
            if self._stream:
                self._stream.write(line + "\n")
                self._stream.flush()


@contextmanager
def serving(out: Path, port: int) -> Iterator[Server]:
    """Serve `out/www` on eight loopback addresses within the context.

    Raises:
        CannotServe: the port is in use, or this machine lacks one of the loopback addresses.
    """
    out = Path(out)
    log = out / "access.log"
    with ExitStack() as stack:
        server = Server(port, (out / "www").resolve(), log)
        sites = [stack.enter_context(_Site(host, server)) for host in HOSTS]
        server._stream = stack.enter_context(log.open("a", encoding="utf-8"))
        for site in sites:
            threading.Thread(target=site.serve_forever, args=(0.05,), daemon=True).start()
            stack.callback(site.shutdown)
        yield server


def check_port(port: int) -> None:
    """Check that a mini-web can be served at a port now.

    Raises:
        CannotServe: see `serving`.
    """
    for host in HOSTS:
        with socket.socket() as probe:
            # As the server does, so that a connection that has just ended does not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise CannotServe(_advice(error, host, port)) from error


class _Site(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, server: Server) -> None:
        self.mini_web, self.host = server, host
        try:
            super().__init__((host, server.port), _Handler)
        except OSError as error:
            raise CannotServe(_advice(error, host, server.port)) from error

    def server_bind(self) -> None:
        # HTTPServer's own method looks up the name of the host, which may take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.host, self.mini_web.port

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that close the connection."""


def _advice(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is used by another program; choose another one: "
            f"--port {port + 1}, or QUICKSTART_PORT={port + 1} make quickstart"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"this machine has no loopback address {host}; on macOS add it with "
            f"'sudo ifconfig lo0 alias {host} up', and likewise {HOSTS[1]} to {HOSTS[-1]}"
        )
    return (
        f"cannot listen on {host}:{port}: {error.strerror}; choose another port: "
        f"--port 8766, or QUICKSTART_PORT=8766 make quickstart"
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30
    server: _Site

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        first, _, rest = path.lstrip("/").partition("/")
        match first:
            case "html":
                self._send(200, HTML, "text/html; charset=utf-8")
            case "status":
                self._send(_status(rest), HTML, "text/html; charset=utf-8")
            case "moved":
                self._redirect(_on_this_site(rest))
            case "inward":
                self._redirect("http://10.1.2.3/x.jpg")
            case "loop":
                self._redirect(_on_this_site(path))
            case "slow":
                self._send_file(rest, slow=True)
            case _:
                self._send_file(path)

    do_HEAD = do_GET

    def _send_file(self, path: str, *, slow: bool = False) -> None:
        file = _inside(self.server.mini_web.www, path)
        if file is None:
            self._send(404, HTML, "text/html; charset=utf-8")
            return
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        self._send(200, file.read_bytes(), kind, slow=slow)

    def _redirect(self, target: str) -> None:
        self._send(302, b"", "text/plain", location=target)

    def _send(
        self, status: int, body: bytes, kind: str, *, location: str = "", slow: bool = False
    ) -> None:
        self._log(status, len(body))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        if self.command == "HEAD":
            return
        step = -(-len(body) // CHUNKS) if slow and body else max(1, len(body))
        for start in range(0, len(body), step):
            if slow:
                time.sleep(PAUSE_S)
            self.wfile.write(body[start : start + step])

    def _log(self, status: int, size: int) -> None:
        site = f"{self.server.server_name}:{self.server.server_port}"
        now = time.strftime("%Y-%m-%dT%H:%M:%S")
        self.server.mini_web.log_request(f"{now} {site} {self.requestline!r} {status} {size}")

    def log_message(self, format: str, *args: object) -> None:
        """Do nothing: `_log` writes the access log."""


def _on_this_site(path: str) -> str:
    """Return the address of a path on this site: it cannot name another one, or end its header."""
    clean = path.lstrip("/\\")
    return "/" + quote(clean, safe="/", errors="surrogateescape")


def _status(path: str) -> int:
    number = path.partition("/")[0]
    return int(number) if number in {"403", "410", "500", "503"} else 404


def _inside(www: Path, path: str) -> Path | None:
    """Return the file at `path` within `www`; None if there is none."""
    if "\0" in path:
        return None
    file = (www / path.lstrip("/")).resolve()
    return file if file.is_relative_to(www) and file.is_file() else None
