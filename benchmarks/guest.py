"""An emulated machine in which each instruction takes one nanosecond: what runs there is counted, and needs no counter.

How it works
============
QEMU's emulation (TCG) can advance a machine's clock by 1 ns with each instruction (``-icount shift=0``), in the kernel
as in a program. That kernel's account of CPU time, ``/proc/PID/task/TID/schedstat``, then is the number of instructions
that a process ran, user and kernel: a loop of 200 million is told as 0.2002 s. How busy or fast the real machine is
does not matter: a second run differs by a percent, in bulk, where batches fall differently, by several.

The guest is Debian's kernel and one archive, an initramfs, with this tree, its interpreter and the other proxies, at
the paths that they have here. It has one core, loopback, and neither disk nor network.

One thing counts for more than with a hardware counter: a ``rep`` instruction, with which memory is copied and cleared,
counts once for each step. The guest is told that its processor has no fast ones, so that copies are loops of 8 bytes or
more; small messages are then counted about as by hardware, and bulk some 60,000 too high for four copies of 64 KiB.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.peers import COMPILED, Absent

#: Seconds of this machine's time after which the guest is given up.
LIMIT = 1800

_KERNEL = "linux-image-cloud-amd64"
#: Memory of the guest: what it works with, and this many times its archive, which is unpacked into half of what is
#: left beside the archive itself.
_MEGABYTES, _TIMES = 1500, 4
#: Parts of Python's library, and packages, that no program here needs and that are large.
_LEFT_OUT = {"test", "tests", "idlelib", "lib2to3", "tkinter", "ensurepip", "turtledemo", "site-packages", "pip",
             "setuptools"}  # fmt: skip
_ETC = ("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/hosts")
_PATH = "/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin:/bin"

_INIT = """\
#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /run
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox ip link set lo up
echo 1 > /proc/sys/kernel/sched_schedstats
ulimit -n 20000
export PATH={path} HOME=/tmp
cd {folder}
{command}
/bin/busybox cat {answer} > /dev/ttyS1
/bin/busybox poweroff -f
"""


def tool(name: str, package: str) -> str:
    """The path of a program. Raises Absent, with the Debian package that brings it."""
    found = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":" + _PATH)
    if found is None:
        raise Absent(f"{name} is not installed (Debian package {package})")
    return found


def kernel(folder: Path) -> Path:
    """Debian's newest kernel for virtual machines, fetched into ``folder`` unless it is there. Raises Absent."""
    if platform.machine() != "x86_64":
        raise Absent(f"the emulated machine is an x86_64, this is {platform.machine()}")
    command = [tool("apt-cache", "apt"), "depends", _KERNEL]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    if (match := re.search(r"Depends: (linux-image-\S+)", said)) is None:
        raise Absent(f"apt-cache knows no {_KERNEL}")
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob(f"{match[1]}_*.deb")):
        _checked(["apt-get", "download", "-qq", match[1]], folder)
    (package,) = folder.glob(f"{match[1]}_*.deb")
    _checked(["dpkg-deb", "-x", str(package), str(folder / package.stem)], folder)
    (image,) = (folder / package.stem / "boot").glob("vmlinuz-*")
    return image


def _checked(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Absent(f"{' '.join(command[:2])} failed: {done.stderr.strip()[-300:]}")


def contents(tree: Path, programs: Path) -> Iterator[Path]:
    """What the guest needs: the interpreter, its library and packages, ``tree``'s code, ``programs``, the proxies."""
    yield from below(Path(sysconfig.get_path("stdlib")))
    yield from below(Path(sysconfig.get_path("purelib")))
    yield from (Path(sys.prefix, "pyvenv.cfg"), Path(sys.executable))
    for package in ("exporter", "benchmarks"):
        yield from below(tree / package)
    yield from below(COMPILED / "exporter")
    yield from COMPILED.glob("*.so")  # what all compiled modules share
    found = [shutil.which(name, path=_PATH) for name in ("nginx", "haproxy")]
    envoy = importlib.util.find_spec("envoy")
    if envoy is not None and envoy.origin is not None:
        found.append(str(Path(envoy.origin).parent / "_bin" / "envoy"))
    yield from below(programs)
    yield from (Path(name) for name in (*_ETC, *filter(None, found)) if Path(name).exists())


def below(folder: Path) -> Iterator[Path]:
    """All files below ``folder``, but for what nobody needs."""
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _LEFT_OUT and not name.startswith("config-")]
        yield from (Path(root, name) for name in files if not re.search(r"\.opt-[12]\.pyc$|\.a$", name))


def closure(paths: Iterable[Path]) -> list[str]:
    """``paths`` with all that must be there for them: folders, where links lead, shared libraries.

    In order, relative to the root, each below the folder that really holds it.
    """
    entries: set[str] = set()
    libraries: set[Path] = set()
    for path in paths:
        _enter(path.absolute(), entries)
        if path.suffix == ".so" or ".so." in path.name or (os.access(path, os.X_OK) and _is_elf(path)):
            libraries |= _libraries(path)
    for library in libraries:
        _enter(library, entries)
    return sorted(entries)


def _enter(path: Path, entries: set[str]) -> None:
    real = path.parent.resolve() / path.name
    if str(real)[1:] in entries or real == Path("/"):
        return
    for folder in (path.parent, real.parent):
        if folder != Path("/"):
            _enter(folder, entries)
    entries.add(str(real)[1:])
    if real.is_symlink():
        _enter(real.parent / os.readlink(real), entries)


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _libraries(path: Path) -> set[Path]:
    said = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False).stdout
    return {Path(name) for name in re.findall(r"(/\S+) \(0x", said)}


def archive(to: Path, entries: list[str], command: list[str], folder: Path, answer: Path) -> None:
    """Write the guest's archive: ``entries``, and an init that runs ``command`` in ``folder`` and hands out the file
    ``answer``. Raises Absent."""
    cpio, busybox = tool("cpio", "cpio"), tool("busybox", "busybox-static")
    if _libraries(Path(busybox)):
        raise Absent(f"{busybox} needs libraries (Debian package busybox-static)")
    own = to.parent / "own"
    (own / "bin").mkdir(parents=True)
    shutil.copy(busybox, own / "bin" / "busybox")
    (own / "init").write_text(_INIT.format(path=_PATH, folder=folder, command=" ".join(command), answer=answer))
    (own / "init").chmod(0o755)
    with to.open("wb") as file:
        for root, names in (("/", entries), (str(own), ["bin", "bin/busybox", "init"])):
            subprocess.run(
                [cpio, "--create", "--format=newc", "--quiet"], cwd=root, input="\n".join(names).encode() + b"\n",
                stdout=file, check=True,
            )  # fmt: skip


def run(image: Path, disk: Path, answer: Path) -> None:
    """Run the guest until it switches itself off. What it says goes to standard output, its answer into ``answer``.

    Raises Absent, and subprocess.TimeoutExpired after :data:`LIMIT` seconds.
    """
    megabytes = _MEGABYTES + _TIMES * (disk.stat().st_size >> 20)
    command = [
        tool("qemu-system-x86_64", "qemu-system-x86"), "-nodefaults", "-display", "none", "-no-reboot",
        "-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-smp", "1", "-m", str(megabytes),
        "-cpu", "max,-erms,-fsrm", "-kernel", str(image), "-initrd", str(disk),
        "-append", "console=ttyS0 quiet mitigations=off panic=-1",
        "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console", "-serial", f"file:{answer}",
    ]  # fmt: skip
    subprocess.run(command, stdin=subprocess.DEVNULL, timeout=LIMIT, check=True)
