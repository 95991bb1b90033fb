"""A real local MLflow server, with a proxy that can be down, slow or broken, or lose requests and answers."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

from support.processes import HOST, find_free_port, wait_for

Loss = Literal["request", "answer"]


class MLflowServer:
    """`mlflow server` with a new store; can be killed and restarted on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, find_free_port()
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(self.port), "--workers", "1"]
        store = ["--backend-store-uri", f"sqlite:///{self.folder}/store.db", "--artifacts-destination", "artifacts"]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                [*command, *store], cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(self._is_healthy, seconds=120)

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}/health", timeout=5) as response:
                return response.status == 200
        except OSError:
            return False

    def kill(self) -> None:
        """Kills all processes of the server's session."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


class FirstLosses:
    """Loses the first attempts of each request that writes, or of each kind of request, for `ServerProxy.lose`.

    All uploads of files are one kind of request.

    Args:
        losses: what is lost of the first attempts, in this order.
        of_each_kind: whether requests that differ in their content or in IDs are the same request.

    Attributes:
        counts: number of attempts, by request and content.
    """

    def __init__(self, *losses: Loss, of_each_kind: bool = False) -> None:
        self._losses, self._of_each_kind = losses, of_each_kind
        self.counts: Counter[tuple[str, bytes]] = Counter()

    def __call__(self, request: str, body: bytes) -> Loss | None:
        if request.startswith("GET"):
            return None
        if self._of_each_kind or "artifacts/" in request:
            request, body = re.sub(r"artifacts/.*|(m-)?[0-9a-f]{32}", "...", request), b""
        key = request, body
        self.counts[key] += 1
        attempt = self.counts[key]
        return self._losses[attempt - 1] if attempt <= len(self._losses) else None


class ServerProxy:
    """Proxy in front of the server.

    Attributes:
        is_down: whether connections are closed without a response.
        is_broken: whether the proxy responds with status 500.
        delay_seconds: additional time of each request.
        lose: returns what is lost of a request, such as `POST /api/2.0/mlflow/runs/create`, with this content: nothing,
            the answer, so that the server has executed it, or the request itself. The connection is then closed.
        call_count: number of requests, with or without a response.
    """

    def __init__(self, server: MLflowServer) -> None:
        self.server, self.is_down, self.is_broken, self.delay_seconds, self.call_count = server, False, False, 0.0, 0
        self.lose: Callable[[str, bytes], Loss | None] = lambda request, body: None
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer_request(self) -> None:
                proxy.call_count += 1
                body = self.read_body()
                time.sleep(proxy.delay_seconds)
                loss = proxy.lose(f"{self.command} {self.path.partition('?')[0]}", body)
                if proxy.is_down or loss == "request":
                    self.close_without_answer()
                    return
                broken = (500, b"out of order", "text/plain")
                status, answer, kind = broken if proxy.is_broken else self.fetch_response(body)
                if loss == "answer":
                    self.close_without_answer()
                    return
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def read_body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":  # the client uploads an empty file in chunks
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size + 2)[:-2]
                self.rfile.readline()
                return body

            def close_without_answer(self) -> None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

            def fetch_response(self, body: bytes) -> tuple[int, bytes, str]:
                try:
                    connection = http.client.HTTPConnection(HOST, proxy.server.port, timeout=60)
                    dropped = ("host", "connection", "transfer-encoding")
                    headers = {k: v for k, v in self.headers.items() if k.lower() not in dropped}
                    connection.request(self.command, self.path, body, headers)
                    answer = connection.getresponse()
                    return answer.status, answer.read(), answer.headers.get("Content-Type", "application/json")
                except OSError as error:
                    return 502, str(error).encode(), "text/plain"

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer_request  # noqa: N815  # names required by http.server

            log_message = lambda self, *arguments: None  # noqa: E731

        self._http = ThreadingHTTPServer((HOST, 0), Handler)
        self._http.daemon_threads = True
        self.address = f"http://{HOST}:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
