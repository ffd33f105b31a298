"""What runs first inside a sandboxed process: it sets the limits, drops privileges, and runs the program.

Only the standard library is imported. It is read as text and run by `python -I -c`.
"""

import builtins
import json
import os
import resource
import signal
import sys
import types
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


def enclose(home: str) -> "list[str]":
    """Let the kernel bound what the process reaches, as far as this kernel can; the names of what it bounds.

    Landlock: files outside `home` cannot be written, and those outside of Python and the system's libraries cannot be
    read; no connection by TCP; no signal to another process. A network name space of its own: no network at all.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    bounded = []
    new_user, new_network = 0x10000000, 0x40000000
    if libc.unshare(new_network if os.geteuid() == 0 else new_user | new_network) == 0:
        bounded.append("network")
        if os.geteuid() != 0:  # the rights that come with a name space of users
            libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
    version = libc.syscall(444, None, ctypes.c_size_t(0), 1)  # landlock_create_ruleset; numbers of every architecture
    if version < 1 or libc.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS
        return bounded
    files = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    attributes = (ctypes.c_uint64 * 3)(files, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = libc.syscall(444, attributes, ctypes.c_size_t(size), 0)
    read = 1 << 0 | 1 << 2 | 1 << 3  # execute, read a file, read a directory
    own = files & ~(1 << 0 | 1 << 6 | 1 << 11)  # all but execute and devices
    device = 1 << 1 | 1 << 2
    known = [sys.base_prefix, sys.prefix, *sys.path, "/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime"]
    for path, access in [
        *((path, read) for path in known if path),
        (home, own),
        *((f"/dev/{name}", device) for name in ("null", "zero", "urandom", "random")),
    ]:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        if not os.path.isdir(path):
            access &= 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14
        rule = ctypes.create_string_buffer(
            (access & files).to_bytes(8, sys.byteorder) + place.to_bytes(4, sys.byteorder), 12
        )
        libc.syscall(445, rules, 1, rule, 0)
        os.close(place)
    if libc.syscall(446, rules, 0) == 0:
        bounded += ["files", *(["tcp"] if version >= 4 else []), *(["signals"] if version >= 6 else [])]
    os.close(rules)
    return bounded


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
    root = os.geteuid() == 0
    bounded = enclose(os.getcwd())
    if root:
        drop_root()
    watch(os.getcwd())
    sys.argv = ["program.py"]
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # which the site module makes, and it may be missing
    if hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(0)  # the limit of time is limit enough
    if job["helpers"]:
        sys.modules["__tests__"] = types.ModuleType("__tests__")
        exec(compile(job["helpers"], "harness.py", "exec", dont_inherit=True), vars(sys.modules["__tests__"]))
    # With tests the program is imported, so that what it guards by `__name__ == "__main__"` does not run; the module is
    # there under both names, for pickle, for `sys.modules[__name__]` and for tests that import it.
    module = sys.modules["__main__"] = sys.modules["solution"] = types.ModuleType("__main__")
    names = vars(module)
    names.update(__name__="solution" if job["tests"] else "__main__", __file__="program.py", __builtins__=builtins)
    for source in job["setup"]:
        exec(compile(source, "setup.py", "exec", dont_inherit=True), names)
    exec(compile(job["code"], "program.py", "exec", dont_inherit=True), names)
    names["__name__"] = "__main__"
    passed = []
    for test in job["tests"]:
        try:
            exec(compile(test, "test.py", "exec", dont_inherit=True), names)
            passed.append(True)
        except BaseException:  # also pytest's failures, and a program that exits
            passed.append(False)
    sys.stdout.flush()
    os.write(report, json.dumps({"token": job["token"], "passed": passed, "bounded": bounded}).encode())


if __name__ == "__main__":
    main()
