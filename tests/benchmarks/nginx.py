"""The photo server: nginx on loopback over http and https, plain and with 100 ms an answer.

All four doors serve the same few hundred files. An address is `/photos/{subset}/{image_id}.jpg`
and the id's last digits name the file, so that any number of photos needs no further inodes.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ADDRESS: Final = "127.0.0.1"
FILE_DIGITS: Final = 3
"""So many digits at the end of an image id name its file."""
DELAY_S: Final = 0.1
_DOORS: Final = ("http", "https", "slow_http", "slow_https", "status")
_TRIES: Final = 3
_START_S: Final = 20.0

_CONFIG: Final = """
load_module {echo_module};
daemon off;
user {user};
worker_processes {workers};
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type image/jpeg;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;  # nginx closes a connection after 1,000 by itself
    keepalive_timeout 300s;
    open_file_cache max=2000 inactive=1h;
    open_file_cache_valid 1h;
    ssl_certificate {folder}/server.pem;
    ssl_certificate_key {folder}/server.key;
    ssl_session_cache shared:tls:10m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen {address}:{http} backlog=1024;
        listen {address}:{https} ssl backlog=1024;
        location ~ "^/photos/[a-z]+/[0-9a-f]+(?<file>[0-9]{{{digits}}})\\.jpg$" {{
            alias {photos}/$file.jpg;
        }}
    }}
    server {{
        listen {address}:{slow_http} backlog=1024;
        listen {address}:{slow_https} ssl backlog=1024;
        location /photos/ {{ echo_sleep {delay_s}; echo_exec /late$uri; }}
        location ~ "^/late/photos/[a-z]+/[0-9a-f]+(?<file>[0-9]{{{digits}}})\\.jpg$" {{
            internal;
            alias {photos}/$file.jpg;
        }}
    }}
    server {{
        listen {address}:{status};
        location = /status {{ stub_status; }}
    }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A running server.

    Attributes:
        ports: door (`http`, `https`, `slow_http`, `slow_https`, `status`) to its port.
        ca_file: certificates that a client trusts: this machine's own and the server's.
    """

    ports: dict[str, int]
    ca_file: Path

    def url(self, door: str) -> str:
        """A photo's address, with `{subset}` and `{image_id}` to fill in."""
        scheme = door.removeprefix("slow_")
        return f"{scheme}://{ADDRESS}:{self.ports[door]}/photos/{{subset}}/{{image_id}}.jpg"

    def num_requests(self) -> int:
        """Requests answered on all doors since the start."""
        address = f"http://{ADDRESS}:{self.ports['status']}/status"
        with urllib.request.urlopen(address, timeout=5) as answer:
            words = answer.read().decode().split()
        return int(words[words.index("requests") + 3])


@contextmanager
def serving(photos: Path, host_name: str, *, workers: int) -> Iterator[Nginx]:
    """Runs nginx until the block ends; it ends with this process, too, however that dies.

    Args:
        photos: folder of `000.jpg`, `001.jpg`, …
        host_name: the certificate holds for it, `localhost` and 127.0.0.1.
        workers: nginx's processes.

    Yields:
        Its doors.

    Raises:
        SystemExit: nginx or its echo module is missing, or nginx does not start.
    """
    binary, echo_module = _find()
    with tempfile.TemporaryDirectory(prefix="nginx-") as name:
        folder = Path(name)
        _make_certificates(folder, host_name)
        values = {
            "echo_module": echo_module,
            "user": pwd.getpwuid(os.geteuid()).pw_name,
            "workers": workers,
            "folder": folder,
            "photos": photos.resolve(),
            "address": ADDRESS,
            "digits": FILE_DIGITS,
            "delay_s": DELAY_S,
        }
        process, ports = _start(binary, folder, values)
        try:
            yield Nginx(ports, folder / "trusted.pem")
        finally:
            process.terminate()
            process.wait()


def version() -> str:
    """As nginx says it."""
    binary, _ = _find()
    answer = subprocess.run([binary, "-v"], capture_output=True, text=True, check=True)
    return answer.stderr.strip().rpartition("/")[2]


def _find() -> tuple[str, Path]:
    binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if binary is None:
        raise SystemExit("the benchmark's server is missing: apt-get install nginx-light")
    built = subprocess.run([binary, "-V"], capture_output=True, text=True, check=True).stderr
    folder = re.search(r"--modules-path=(\S+)", built)
    module = Path(folder[1] if folder else "/usr/lib/nginx/modules", "ngx_http_echo_module.so")
    if not module.exists():
        raise SystemExit(
            f"{module} is missing, the slow server needs it: apt-get install nginx-light "
            "libnginx-mod-http-echo"
        )
    return binary, module


def _start(
    binary: str, folder: Path, values: dict[str, object]
) -> tuple[subprocess.Popen[bytes], dict[str, int]]:
    """Another program may take a free port before nginx does; then others are tried."""
    log = folder / "error.log"
    for _ in range(_TRIES):
        ports = _free_ports()
        config = folder / "nginx.conf"
        config.write_text(_CONFIG.format(**values, **ports))
        command = [binary, "-p", str(folder), "-e", str(log), "-c", str(config)]
        # The kernel ends nginx when this process is gone, killed or not.
        process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command])
        if _answers(process, ports):
            return process, ports
        process.kill()
        process.wait()
    found = log.read_text() if log.exists() else "nothing"
    raise SystemExit(f"nginx does not start; its log says: {found}")


def _free_ports() -> dict[str, int]:
    with contextlib.ExitStack() as stack:
        taken = {door: stack.enter_context(socket.socket()) for door in _DOORS}
        for door in taken.values():
            door.bind((ADDRESS, 0))
        return {door: int(held.getsockname()[1]) for door, held in taken.items()}


def _answers(process: subprocess.Popen[bytes], ports: dict[str, int]) -> bool:
    """Whether every door opens within `_START_S`."""
    until = time.monotonic() + _START_S
    waiting = set(ports.values())
    while waiting and process.poll() is None and time.monotonic() < until:
        for port in list(waiting):
            with contextlib.suppress(OSError), socket.create_connection((ADDRESS, port), 1):
                waiting.discard(port)
        time.sleep(0.02)
    return not waiting and process.poll() is None


def _make_certificates(folder: Path, host_name: str) -> None:
    """An authority and a server certificate by `openssl`; P-256, the cheapest to shake hands with.

    Clients trust it beside this machine's own authorities, as they would in earnest: reading those
    is part of what a client pays for https.
    """

    def openssl(*words: str) -> None:
        answer = subprocess.run(["openssl", *words], cwd=folder, capture_output=True, check=False)
        if answer.returncode:
            raise SystemExit(f"openssl {' '.join(words)}: {answer.stderr.decode()}")

    names = f"subjectAltName=DNS:{host_name},DNS:localhost,IP:{ADDRESS}"
    Path(folder, "names").write_text(names + "\nbasicConstraints=CA:FALSE\n")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(
        "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "30",
        "-subj", "/CN=croplake benchmark", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
    )  # fmt: skip
    openssl("req", *key, "-keyout", "server.key", "-out", "request.pem", "-subj", "/CN=photos")
    openssl(
        "x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key",
        "-CAcreateserial", "-out", "server.pem", "-days", "30", "-extfile", "names",
    )  # fmt: skip
    own = ssl.get_default_verify_paths()
    system = next((file for file in (own.cafile, own.openssl_cafile) if file), None)
    trusted = Path(system).read_text() if system and Path(system).exists() else ""
    Path(folder, "trusted.pem").write_text(trusted + Path(folder, "ca.pem").read_text())
