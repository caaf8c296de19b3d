"""Where an `mlflow server` can keep things: PostgreSQL from the system's packages, and a server that speaks S3."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.governance.servers import free_port, wait_until_up

# Debian keeps the server's programs out of the PATH.
_DEBIAN = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")))
POSTGRES = Path(shutil.which("initdb") or (_DEBIAN or ["/nowhere"])[-1]).resolve().parent
needs_postgresql = pytest.mark.skipif(not (POSTGRES / "pg_ctl").exists(), reason="PostgreSQL is not installed")


@contextmanager
def postgresql() -> Iterator[str]:
    """A PostgreSQL cluster of its own from the programs of the system; the address of its database, with a password."""
    user = "postgres" if os.getuid() == 0 else None  # the server refuses to be root
    folder = Path(tempfile.mkdtemp(prefix="musclelora-postgresql-"))
    port, password = free_port(), secrets.token_hex(12)
    try:
        (folder / "password").write_text(password, encoding="utf-8")
        if user:
            for path in (folder, folder / "password"):
                shutil.chown(path, user)

        def run(program: str, *arguments: str) -> None:
            subprocess.run(
                [str(POSTGRES / program), "-D", str(folder / "data"), *arguments],
                user=user,
                cwd=folder,
                check=True,
                stdout=subprocess.DEVNULL,
                timeout=120,
            )

        run("initdb", "-U", "mlflow", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off"
        run("pg_ctl", "-l", str(folder / "log"), "-o", options, "-w", "start")
        try:
            yield f"postgresql://mlflow:{password}@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)


def tables_of(database: str, folder: Path) -> None:
    """Every row of every table as text: a file per table in `folder`."""
    import psycopg2
    from psycopg2 import sql

    folder.mkdir()
    with closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        for (table,) in cursor.fetchall():
            cursor.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(table)))
            (folder / table).write_text("\n".join(row for (row,) in cursor.fetchall()), encoding="utf-8")


@dataclass(frozen=True)
class ObjectStore:
    """An S3 server with one bucket. Its keys and its address are what the environment says: `environment`."""

    environment: dict[str, str]
    bucket: str = "models"

    def client(self) -> Any:
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.environment["MLFLOW_S3_ENDPOINT_URL"],
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
        )

    def download(self, folder: Path) -> None:
        """Every object of the bucket as a file."""
        client = self.client()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
            for item in page["Contents"]:
                path = folder / item["Key"]
                path.parent.mkdir(parents=True, exist_ok=True)
                client.download_file(self.bucket, item["Key"], str(path))


@contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """moto's server, which answers as S3 does, in a process of its own; its log is in `folder`."""
    pytest.importorskip("moto")
    port, log = free_port(), folder / "s3.log"
    store = ObjectStore(
        {
            "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "musclelora",
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
            "AWS_EC2_METADATA_DISABLED": "true",  # else a client without keys asks an address of the cloud for some
        }
    )
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_up(f"{store.environment['MLFLOW_S3_ENDPOINT_URL']}/moto-api/", process, log)
        store.client().create_bucket(Bucket=store.bucket)
        yield store
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)
