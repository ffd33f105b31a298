"""What runs first inside a sandboxed process: it sets the limits, drops privileges, and runs the program.

Only the standard library is imported. It is read as text and run by `python -I -c`.
"""

import json
import os
import resource
import signal
import sys
from typing import Any

NOBODY = 65534


def drop_root() -> None:
    """Become the user nobody, who cannot exceed the limit of processes or write others' files.

    The limit of processes does not hold for root. The right to read what root can is kept, because Python itself may
    be installed where only root can read.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(8, 1, 0, 0, 0):  # PR_SET_KEEPCAPS: what is permitted stays so while the user changes
        raise OSError(ctypes.get_errno(), "prctl")
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    read = 1 << 2  # CAP_DAC_READ_SEARCH, and nothing else: effective and permitted; no inheritable, no high words
    if libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(read, read, 0, 0, 0, 0)):
        raise OSError(ctypes.get_errno(), "capset")


def watch(root: str) -> None:
    """Refuse what a program may do by accident: writing outside `root`, connecting, starting or killing processes.

    An audit hook cannot be removed. Python's own functions call it; code that means harm can get around it.
    """
    refused = (
        "subprocess.",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "os.fork",
        "os.system",
        "os.kill",
        "pty.",
        "ftplib.",
    )
    network = {f"socket.{name}" for name in ("connect", "bind", "sendto", "sendmsg", "getaddrinfo", "gethostbyname")}
    changes = {  # event: positions of the paths that it changes, and of the directory that they are relative to
        "os.remove": ((0,), 1),
        "os.rmdir": ((0,), 1),
        "os.mkdir": ((0,), 2),
        "os.rename": ((0, 1), 2),
        "os.link": ((1,), 3),
        "os.symlink": ((1,), 2),
        "os.chmod": ((0,), 2),
        "os.chown": ((0,), 3),
        "os.utime": ((0,), 3),
        "os.truncate": ((0,), None),
        "shutil.rmtree": ((0,), None),
    }
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    realpath, join, readlink, fspath, fsdecode = os.path.realpath, os.path.join, os.readlink, os.fspath, os.fsdecode

    def check(path: Any, directory: Any = None) -> None:
        if isinstance(path, int):
            return
        name = fsdecode(fspath(path))
        if isinstance(directory, int) and directory >= 0:
            name = join(readlink(f"/proc/self/fd/{directory}"), name)
        if name != "/dev/null" and not (realpath(name) + "/").startswith(root + "/"):
            raise PermissionError(f"{name} may not be changed from here")

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            if isinstance(args[2], int) and args[2] & writing:
                check(args[0])
        elif event in changes:
            paths, directory = changes[event]
            for position in paths:
                check(args[position], None if directory is None or directory >= len(args) else args[directory])
        elif event in network or event.startswith(refused):
            raise PermissionError(f"{event} is not allowed here")

    sys.addaudithook(hook)


def main() -> None:
    with os.fdopen(int(sys.argv[1]), "rb") as file:
        job = json.load(file)
    report = int(sys.argv[2])
    os.umask(0o077)
    signal.alarm(job["alarm"])  # should the trainer die meanwhile
    for name, limit in job["limits"].items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    if os.geteuid() == 0:
        drop_root()
    watch(os.getcwd())
    sys.argv = ["program.py"]
    names = {"__name__": "__main__"}
    exec(compile(job["code"], "program.py", "exec"), names)
    passed = []
    for test in job["tests"]:
        try:
            exec(compile(test, "test.py", "exec"), names)
            passed.append(True)
        except Exception:
            passed.append(False)
    sys.stdout.flush()
    os.write(report, json.dumps({"token": job["token"], "passed": passed}).encode())


if __name__ == "__main__":
    main()
