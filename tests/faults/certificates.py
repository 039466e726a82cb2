"""Certificates for hosts on loopback, made by the `openssl` command."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificates:
    """A CA of our own and what it has signed; each server file holds a certificate and its key.

    Attributes:
        ca: to be trusted.
        valid: for the names asked for.
        expired: the same, of the day before yesterday.
        wrong_host: for `somebody-else.test`.
        unknown_ca: the same as `valid`, signed by nobody that is trusted.
    """

    ca: Path
    valid: Path
    expired: Path
    wrong_host: Path
    unknown_ca: Path


def make_certificates(folder: Path, hosts: Iterable[str]) -> Certificates:
    """Makes them in a folder; takes a fraction of a second."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(hosts)
    return Certificates(
        ca=_authority(folder, "ca"),
        valid=_server(folder, "valid", names, "ca"),
        expired=_server(folder, "expired", names, "ca", days=-1),
        wrong_host=_server(folder, "wrong_host", ["somebody-else.test"], "ca"),
        unknown_ca=_server(folder, "unknown_ca", names, _authority(folder, "other_ca").stem),
    )


def server_context(certificate: Path) -> ssl.SSLContext:
    """TLS of a server that shows this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def _authority(folder: Path, name: str) -> Path:
    key, file = folder / f"{name}.key", folder / f"{name}.pem"
    _openssl(f"ecparam -name prime256v1 -genkey -noout -out {key.name}", folder)
    _openssl(f"req -x509 -new -key {key.name} -days 3650 -subj /CN={name} -out {file.name}", folder)
    return file


def _server(folder: Path, name: str, hosts: list[str], ca: str, *, days: int = 3650) -> Path:
    names = ",".join(f"DNS:{host}" for host in hosts)
    _openssl(f"ecparam -name prime256v1 -genkey -noout -out {name}.key", folder)
    _openssl(
        f"req -new -key {name}.key -subj /CN={name} -addext subjectAltName={names} -out {name}.csr",
        folder,
    )
    _openssl(
        f"x509 -req -in {name}.csr -CA {ca}.pem -CAkey {ca}.key -CAcreateserial -days {days} "
        f"-copy_extensions copy -out {name}.crt",
        folder,
    )
    both = folder / f"{name}.pem"
    both.write_bytes((folder / f"{name}.crt").read_bytes() + (folder / f"{name}.key").read_bytes())
    return both


def _openssl(arguments: str, folder: Path) -> None:
    command = ["openssl", *arguments.split()]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
