"""`mlflow server` and `mlflow models serve` on the loopback address, and a way to lose a server in mid-request."""

import http.client
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import psutil
import pytest
from werkzeug.security import generate_password_hash

WAIT_SECONDS = 240
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # of uvicorn
PASSWORD = secrets.token_hex(12)
When = Literal["before", "during", "after"]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Server:
    """One port and one database; can be killed and started again. With `auth`, user `admin` and `PASSWORD`."""

    def __init__(
        self, folder: Path, *, auth: bool = True, database: str | None = None, artifacts: str | None = None
    ) -> None:
        """`artifacts`: where clients store artifacts themselves; without it the server does, in `folder`."""
        self.folder, self.auth = folder, auth
        self.database = database or f"sqlite:///{folder}/mlflow.db"
        self.artifacts = artifacts
        self.address = f"http://127.0.0.1:{free_port()}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--app-name", "basic-auth"] if self.auth else []
        command += ["--host", "127.0.0.1", "--port", self.address.rpartition(":")[2]]
        if self.artifacts is None:
            command += ["--artifacts-destination", str(self.folder / "artifacts")]
        else:
            command += ["--no-serve-artifacts", "--default-artifact-root", self.artifacts]
        settings = {
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "x",
            "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
            "MLFLOW_BACKEND_STORE_URI": self.database,  # not on the command line, where its password would be seen
            "PATH": PATH,
        }
        log = self.folder / "server.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ | settings,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until_up(f"{self.address}/health", self.process, log)
        if self.auth:
            with closing(sqlite3.connect(self.folder / "basic_auth.db")) as users:
                # MLflow computes the hash anew for every request, which takes most of a second on a busy machine.
                cheap = generate_password_hash(PASSWORD, method="pbkdf2:sha256:1")
                assert users.execute("UPDATE users SET password_hash = ?", [cheap]).rowcount == 1
                users.commit()

    def kill(self) -> None:
        if self.process is not None:
            children = psutil.Process(self.process.pid).children(recursive=True)
            os.killpg(self.process.pid, signal.SIGKILL)  # the command starts the server as its child
            self.process.wait(timeout=30)
            psutil.wait_procs(children, timeout=30)
            self.process = None


@contextmanager
def served(model: str, tracking_uri: str, log: Path) -> Iterator[str]:
    """`mlflow models serve` as a user would start it; the address where it answers."""
    address = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", address.rpartition(":")[2]]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            env=os.environ | {"MLFLOW_TRACKING_URI": tracking_uri, "PATH": PATH},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_until_up(f"{address}/ping", process, log)
            yield address
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # the command starts the server as its child
            process.wait(timeout=30)


def wait_until_up(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2):  # noqa: S310
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"The server did not come up:\n{log.read_text()[-3000:]}")


class Lossy:
    """Stands between client and server, and loses the server at one call: nothing answers until `restart`.

    `before` the call reached it, `during` it (half of the request arrives), or `after` it was done, unanswered.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream.removeprefix("http://")
        self.seen: list[str] = []
        self._at: tuple[str, When] | None = None
        self._lost = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def lose_at(self, call: str, when: When) -> None:
        """Lose the server at the next `call`, such as `POST runs/log-parameter`."""
        self._at = (call, when)

    def restart(self) -> None:
        self._at, self._lost, self.seen = None, False, []

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        lossy = self

        class Handler(BaseHTTPRequestHandler):
            def handle_call(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                call = f"{self.command} {self.path.partition('?')[0].partition('/mlflow/')[2]}"
                lossy.seen.append(call)
                when = lossy._at[1] if lossy._at and lossy._at[0] == call else None
                if lossy._lost or when == "before":
                    return self.lose()
                if when == "during":
                    host, _, port = lossy.upstream.partition(":")
                    head = f"{self.command} {self.path} HTTP/1.1\r\n{self.headers}".encode()
                    with socket.create_connection((host, int(port))) as half:
                        half.sendall((head + body)[: len(head) + len(body) // 2])
                    return self.lose()
                connection = http.client.HTTPConnection(lossy.upstream, timeout=60)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                if when == "after":
                    return self.lose()
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.getheader("Content-Type") or "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                return None

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_call  # noqa: N815

            def lose(self) -> None:
                lossy._lost, self.close_connection = True, True

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (named so by the base class)
                pass

        return Handler
