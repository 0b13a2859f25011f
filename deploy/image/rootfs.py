"""Lay out the file system of the image: the running interpreter, its standard library, a virtual environment,
and the shared libraries all of these load. Runs inside the build stage, with that virtual environment's
Python.

    python rootfs.py DESTINATION VENV

Everything keeps its path, so the virtual environment's links still lead to the interpreter. Byte code is
compiled here, once, and checked against nothing afterwards (PEP 552, unchecked hashes): the root file system
is read-only, and copying may change modification times.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

UNUSED = (
    *(
        "__pycache__",
        "config-*",
        "dist-packages",
        "distutils",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "pydoc_data",
    ),
    *("site-packages", "test", "tests", "tkinter", "turtledemo"),
    *("curses", "_curses*.so", "dbm", "_dbm*.so", "_gdbm*.so", "sqlite3", "_sqlite3*.so"),
    *("nis*.so", "ossaudiodev*.so", "readline*.so"),
)
"""Parts of the standard library that a server does not import; names at any depth of it."""
NOT_RUN = ("__pycache__", "Activate.ps1", "activate*", "*.c", "*.h", "*.pxd", "*.pyi", "*.pyx")
"""What lies in a virtual environment for people and compilers only."""

PASSWD = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"
GROUP = "root:x:0:\nnonroot:x:65532:\n"
NSSWITCH = "hosts: files dns\n"
_LIBRARY = re.compile(r"(?:=>\s+)?(/\S+)\s+\(0x[0-9a-f]+\)")


def main(destination: Path, environment: Path) -> None:
    library = Path(sysconfig.get_path("stdlib"))
    copy_tree(library, destination, UNUSED)
    copy_tree(environment, destination, NOT_RUN)
    for path in links(environment / "bin" / "python"):
        copy(path, destination)
    trees = [destination / tree.relative_to("/") for tree in (library, environment)]
    interpreter = Path(os.path.realpath(sys.executable))
    binaries = [interpreter, *(file for tree in trees for file in tree.rglob("*.so*"))]
    for path in shared_libraries(binaries):
        for link in links(path):
            copy(link, destination)
    for name, text in {"passwd": PASSWD, "group": GROUP, "nsswitch.conf": NSSWITCH}.items():
        target = destination / "etc" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    merge_directories(destination)
    for tree in trees:
        compile_tree(destination, tree)


def copy_tree(tree: Path, destination: Path, unused: Iterable[str]) -> None:
    """A directory and all below it, except names that match a pattern of `unused`."""
    patterns = list(unused)

    def wanted(name: str) -> bool:
        return not any(fnmatch(name, pattern) for pattern in patterns)

    for directory, names, files in os.walk(tree):
        names[:] = filter(wanted, names)
        linked = [name for name in names if (Path(directory) / name).is_symlink()]
        for name in [*filter(wanted, files), *linked]:
            copy(Path(directory) / name, destination)


def copy(path: Path, destination: Path) -> None:
    """One file or link, to the same path below destination."""
    target = destination / path.relative_to("/")
    if not target.exists() and not target.is_symlink():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target, follow_symlinks=False)


def links(path: Path) -> Iterator[Path]:
    """The path, and every link on the way to the file it stands for, the file last."""
    yield path
    while path.is_symlink():
        path = Path(os.path.normpath(path.parent / os.readlink(path)))
        yield path


def shared_libraries(binaries: Iterable[Path]) -> set[Path]:
    """What the dynamic loader maps for these files, the loader itself included. Libraries in wheels find
    their own.
    """
    found: set[Path] = set()
    for binary in binaries:
        listed = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False)
        found |= {Path(path) for path in _LIBRARY.findall(listed.stdout)}
    return found


def merge_directories(destination: Path) -> None:
    """/lib and /lib64 as links into /usr where the base has them so: the loader is looked for under both
    names.
    """
    for name in ("bin", "lib", "lib64"):
        base, target = Path("/") / name, destination / name
        if not base.is_symlink():
            continue
        real = destination / "usr" / name
        real.mkdir(parents=True, exist_ok=True)
        if target.is_dir() and not target.is_symlink():
            shutil.copytree(target, real, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(target)
        if not target.is_symlink():
            target.symlink_to(os.readlink(base))


def compile_tree(destination: Path, tree: Path) -> None:
    """Byte code for every module of a tree below destination, with the path it will have as its file name."""
    compileall.compile_dir(
        tree,
        quiet=1,
        stripdir=str(destination),
        prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
