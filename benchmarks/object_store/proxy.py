"""A proxy on loopback before an S3 server: it notes every request, and makes faults on demand."""

from __future__ import annotations

import http.client
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from benchmarks.object_store.server import HOST

Fault = Literal["unavailable", "error", "lost request", "lost reply", "torn", "late"]
"""What happens to a request.

unavailable, error: the reply is 503 or 500, and the server gets nothing.
lost request, lost reply: the connection is closed before or after the server did what was asked.
torn: the server gets half of the body, then the connection is closed.
late: the connection is closed, and the server gets the request when `Proxy.deliver` is called.
"""
HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "expect")


class Request(NamedTuple):
    """A request that was made.

    Attributes:
        method: of HTTP; LIST instead of GET for a listing, and DELETE for one of many objects.
        path: of the object in its bucket, or the prefix that is listed, decoded.
        parameters: those of the query.
        body_bytes: size of the body.
    """

    method: str
    path: str
    parameters: dict[str, list[str]]
    body_bytes: int


@dataclass
class Rule:
    """Makes a fault of the next requests that match.

    Attributes:
        fault: what happens to them.
        matches: which requests.
        times: how many more.
    """

    fault: Fault
    matches: Callable[[Request], bool]
    times: int


@dataclass
class Proxy:
    """What passed a proxy, and what it will do.

    Attributes:
        upstream: port of the server.
        port: port of the proxy.
        requests: in order.
        rules: the first one that matches decides.
        faults: how often each fault was made.
    """

    upstream: int
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    _late: list[tuple[str, str, list[tuple[str, str]], bytes]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(
        self, fault: Fault, times: int, matches: Callable[[Request], bool] = lambda request: True
    ) -> None:
        """Make a fault of the next requests that match."""
        self.rules.append(Rule(fault, matches, times))

    def counts(self) -> Counter[str]:
        """Return the number of requests by method."""
        return Counter(request.method for request in self.requests)

    def reset(self) -> None:
        """Forget the requests, the rules, and what is late."""
        with self._lock:
            self.requests, self.rules, self._late = [], [], []
            self.faults = Counter()

    def note(self, request: Request) -> Fault | None:
        """Note a request, and return the fault that it meets."""
        with self._lock:
            self.requests.append(request)
            for rule in self.rules:
                if rule.times and rule.matches(request):
                    rule.times -= 1
                    self.faults[rule.fault] += 1
                    return rule.fault
        return None

    def hold(self, method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> None:
        """Keep a request until `deliver` is called."""
        with self._lock:
            self._late.append((method, target, headers, body))

    def deliver(self) -> list[int]:
        """Send the requests that are late to the server; return the status of each reply."""
        with self._lock:
            late, self._late = self._late, []
        connection = http.client.HTTPConnection(HOST, self.upstream, timeout=60)
        statuses = []
        for method, target, headers, body in late:
            statuses.append(exchange(connection, method, target, headers, body)[0].status)
        connection.close()
        return statuses


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    headers: list[tuple[str, str]],
    body: bytes,
) -> tuple[http.client.HTTPResponse, bytes]:
    """Send a request exactly as it came, because its signature covers its headers."""
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    connection.endheaders(body or None)
    reply = connection.getresponse()
    return reply, reply.read()


def _request(method: str, target: str, body: bytes) -> Request:
    parts = urlsplit(target)
    parameters = parse_qs(parts.query, keep_blank_values=True)
    path = unquote(parts.path).lstrip("/").partition("/")[2]
    if method == "GET" and "list-type" in parameters:
        return Request("LIST", parameters.get("prefix", [""])[0], parameters, 0)
    if method == "POST" and "delete" in parameters:
        return Request("DELETE", path, parameters, len(body))
    return Request(method, path, parameters, len(body))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server
    upstream: http.client.HTTPConnection

    def setup(self) -> None:
        super().setup()
        self.upstream = http.client.HTTPConnection(HOST, self.server.proxy.upstream, timeout=60)

    def finish(self) -> None:
        self.upstream.close()
        with suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def _serve(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = [(n, v) for n, v in self.headers.items() if n.lower() not in HOP_BY_HOP]
        fault = proxy.note(_request(self.command, self.path, body))
        if fault in ("unavailable", "error"):
            self._reply(503 if fault == "unavailable" else 500, [], b"")
            return
        if fault == "torn":
            self._send_half(headers, body)
        elif fault == "late":
            proxy.hold(self.command, self.path, headers, body)
        if fault in ("torn", "late", "lost request"):
            self._hang_up()
            return
        reply, content = exchange(self.upstream, self.command, self.path, headers, body)
        if fault == "lost reply":
            self._hang_up()
            return
        kept = [(n, v) for n, v in reply.getheaders() if n.lower() not in HOP_BY_HOP]
        self._reply(reply.status, kept, content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _reply(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() != "content-length":
                self.send_header(name, value)
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        # The reply to HEAD has the length of the object, and no body.
        if status != http.client.NO_CONTENT:
            is_head = self.command == "HEAD" and lengths
            self.send_header("Content-Length", lengths[0] if is_head else str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _send_half(self, headers: list[tuple[str, str]], body: bytes) -> None:
        with socket.create_connection((HOST, self.server.proxy.upstream), timeout=60) as upstream:
            lines = [f"{self.command} {self.path} HTTP/1.1", *(f"{n}: {v}" for n, v in headers)]
            upstream.sendall("\r\n".join([*lines, "", ""]).encode() + body[: len(body) // 2])

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, proxy: Proxy) -> None:
        super().__init__((HOST, 0), _Handler)
        self.proxy = proxy


@contextmanager
def proxying(upstream: int) -> Iterator[Proxy]:
    """Run a proxy before the server on a port."""
    proxy = Proxy(upstream)
    server = _Server(proxy)
    proxy.port = int(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
