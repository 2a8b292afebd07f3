"""Who takes part: how each contender is run, and whether it can be here."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.servers.process import ServerUnavailable, open_directory, program

CLIENTS = Path(__file__).parent / "clients"
INSTALLING_SECONDS = 120


@dataclass(frozen=True)
class Contender:
    """A client. `command`, then the job, then what comes `behind` it, run it as a worker
    (clients/worker.py); smtp-source is a program of its own kind. `missing` tells why it can't run
    here.
    """

    name: str
    command: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    module: Literal["smtplib", "csmtplib"] = "smtplib"
    environment: Mapping[str, str] = field(default_factory=dict)
    missing: str | None = None

    @property
    def is_worker(self) -> bool:
        """Whether it is driven as clients/worker.py tells."""
        return self.name != "smtp-source"

    @property
    def is_drop_in(self) -> bool:
        """Whether it is smtplib or csmtplib, for which there are several clients."""
        return self.name == "stdlib" or self.module == "csmtplib"


def python_worker(client: str) -> tuple[str, ...]:
    """Return the command that runs a module of clients/."""
    return (sys.executable, "-m", f"benchmarks.clients.{client}")


def lacks(module: str, extra: str) -> str | None:
    """Return a word about a Python module that is not installed."""
    return None if importlib.util.find_spec(module) else f"not installed: {extra}"


def csmtplib(implementation: str) -> Contender:
    """Return this project as a contender, with one of its implementations."""
    built = implementation == "python" or importlib.util.find_spec("csmtplib.kernel._c")
    return Contender(
        f"csmtplib {implementation}",
        python_worker("drop_in"),
        module="csmtplib",
        environment={"CSMTPLIB_IMPL": implementation},
        missing=None if built else "not built: it takes a C compiler when csmtplib is installed",
    )


def nodemailer(modules: str) -> Contender:
    """Return nodemailer, found through `modules`, a value of NODE_PATH."""
    environment = {"NODE_PATH": modules}
    missing = None
    if shutil.which("node") is None:
        missing = "not installed: apt-get install nodejs npm"
    else:
        resolve = ["node", "-e", "require.resolve('nodemailer')"]
        found = subprocess.run(resolve, env=os.environ | environment, capture_output=True)
        if found.returncode != 0:
            missing = "not installed: --install-peers (takes npm), or have NODE_PATH lead to it"
    return Contender(
        "nodemailer",
        ("node", str(CLIENTS / "nodemailer.js")),
        behind=(sys.executable,),
        environment=environment,
        missing=missing,
    )


def smtp_source() -> Contender:
    """Return Postfix's load generator."""
    try:
        return Contender("smtp-source", (program("smtp-source", "postfix"),))
    except ServerUnavailable as reason:
        return Contender("smtp-source", missing=str(reason))


@contextmanager
def contenders(*, install_peers: bool) -> Iterator[dict[str, Contender]]:
    """Yield all contenders by name, the standard library first; with `install_peers` what comes
    from npm is installed into a directory that is there while the block lasts.
    """
    with open_directory("peers") as directory:
        modules = os.environ.get("NODE_PATH", "")
        if install_peers and shutil.which("npm"):
            install = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(directory)]
            # Where it fails it says why, and nodemailer is missing.
            with suppress(subprocess.TimeoutExpired):
                subprocess.run(
                    [*install, "nodemailer"], stdout=subprocess.DEVNULL, timeout=INSTALLING_SECONDS
                )
            modules = str(directory / "node_modules")
        everyone = [
            Contender("stdlib", python_worker("drop_in")),
            csmtplib("c"),
            csmtplib("python"),
            Contender(
                "aiosmtplib",
                python_worker("asynchronous"),
                missing=lacks("aiosmtplib", "pip install aiosmtplib"),
            ),
            Contender(
                "pycurl", python_worker("curl"), missing=lacks("pycurl", "pip install pycurl")
            ),
            nodemailer(modules),
            smtp_source(),
        ]
        yield {contender.name: contender for contender in everyone}
