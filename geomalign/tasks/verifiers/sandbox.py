"""Python programs of unknown origin, run one at a time in a process of their own with limits.

What is kept in bounds on every Unix: wall-clock and processor time, address space, the size of a file, open files,
output, core dumps, and new processes and threads, of which there are none. The sum of all files is looked at ten
times a second. The process is a session of its own and is killed with all of its group. It starts in an empty
directory that is removed afterwards, without the environment, in Python's isolated mode; if the trainer is root, it
becomes the user nobody first.

What else the kernel bounds where it can (`kernel_bounds()` says what it does here): with Landlock (Linux 5.13), files
outside of the directory cannot be written and files other than Python's and the system's libraries cannot be read; from
Linux 6.7 there are no TCP connections, and from 6.12 no signals to other processes; and in a network name space of its
own there is no network at all. Where the kernel does not, as on macOS and in many containers, only Python's audit hook
refuses to write outside of the directory, to connect, and to start or kill processes; code in C gets around it, and
what the user may read can be read.

It is no boundary against faults of the kernel, and none between the program and its tests, which run in one process: a
program can look for them, or replace what they call. Inputs and outputs are compared outside. For more, verify in a
virtual machine, with a verifier of your own.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

_MIB = 1 << 20
#: What the program gets instead of the environment of the trainer.
_ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Limits:
    """What one program may use.

    Args:
        seconds: of wall-clock time, from its start. > 0.
        memory: address space in MiB, the interpreter's own (some 15) included. >= 32.
        file: size of one file in MiB; 0 forbids to write into files. All together may have 64 times as much.
        output: KiB of standard output and of standard error, each; more ends the program. >= 1.

    >>> Limits(seconds=1.0).memory
    512
    """

    seconds: float = 3.0
    memory: int = 512
    file: int = 1
    output: int = 64

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and self.memory >= 32 and self.file >= 0 and self.output >= 1):
            raise ValueError(f"{self}: seconds must be > 0, memory >= 32 (MiB), file >= 0 (MiB), output >= 1 (KiB).")


@dataclass(frozen=True)
class Execution:
    """How the run of a program ended.

    Args:
        end: `"finished"`; `"failed"`: the program raised, exited early or was killed by a limit; `"timeout"`;
            `"output"`: it wrote too much, to its outputs or into files.
        passed: whether each test passed, in order; empty unless the program finished.
        out, err: the beginning of its standard output and standard error.
        bounded: what the kernel bounded, see `kernel_bounds`; empty unless the program finished.

    >>> Execution("finished", (True,), "", "").passed
    (True,)
    """

    end: str
    passed: tuple[bool, ...]
    out: str
    err: str
    bounded: tuple[str, ...] = ()


def run(
    code: str,
    tests: Sequence[str] = (),
    stdin: str = "",
    limits: Limits | None = None,
    packages: bool = False,
    setup: Sequence[str] = (),
    helpers: str = "",
) -> Execution:
    """Run a program, then pieces of code in its name space; a piece passes if it does not raise.

    The program's `__name__` is `"__main__"`, and `"solution"` where there are pieces; its module has both names.

    Args:
        code: the program.
        tests: the pieces of code.
        stdin: its standard input.
        limits: what it may use; None: the defaults.
        packages: whether installed packages can be imported, or the standard library alone.
        setup: pieces of code that run before the program in its name space, each with `__future__` imports of its own.
        helpers: code of a module `__tests__` that the pieces can import.

    Raises:
        ValueError: this system has no such limits, or refuses them.

    >>> run("x = 2", ["assert x == 2", "assert x == 3"]).passed
    (True, False)
    """
    available()
    return _run(code, tests, stdin, limits or Limits(), packages, setup, helpers)


@cache
def available() -> None:
    """Try, once per process, whether programs can be run on this machine.

    Raises:
        ValueError: they cannot; the message names the reason.

    >>> available()
    """
    if os.name != "posix":
        raise ValueError("programs can be verified on Unix only: elsewhere a process has no such limits.")
    ran = _run("import fractions, heapq", ["pass"], "", Limits(seconds=30), False)
    if ran.passed != (True,):
        raise ValueError(
            f"programs cannot be verified here: a test program {ran.end}: {ran.err.strip() or 'no message'}. "
            "Often the system forbids root to become another user; start the training as an ordinary user."
        )


@cache
def kernel_bounds() -> frozenset[str]:
    """What the kernel of this machine bounds beyond the limits: of `"files"`, `"network"`, `"tcp"` and `"signals"`.

    >>> kernel_bounds() <= {"files", "network", "tcp", "signals"}
    True
    """
    available()
    return frozenset(_run("", ["pass"], "", Limits(seconds=30), False).bounded)


def _run(
    code: str,
    tests: Sequence[str],
    stdin: str,
    limits: Limits,
    packages: bool,
    setup: Sequence[str] = (),
    helpers: str = "",
) -> Execution:
    token = secrets.token_hex(16)
    seconds = math.ceil(limits.seconds) + 1
    job = {
        "code": code,
        "tests": list(tests),
        "setup": list(setup),
        "helpers": helpers,
        "token": token,
        "alarm": seconds + 1,
        "limits": {
            "RLIMIT_AS": limits.memory * _MIB,
            "RLIMIT_CPU": seconds,
            "RLIMIT_FSIZE": limits.file * _MIB,
            "RLIMIT_NOFILE": 64,
            "RLIMIT_NPROC": 0,
            "RLIMIT_CORE": 0,
        },
    }
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="program-", ignore_cleanup_errors=True))
        if os.geteuid() == 0:
            os.chown(home, 65534, 65534)
        given, words = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        given.write(json.dumps(job).encode())
        words.write(stdin.encode())
        given.seek(0)
        words.seek(0)
        read, write = os.pipe()
        report = stack.enter_context(os.fdopen(read, "rb", buffering=0))
        with os.fdopen(write, "wb", buffering=0):
            process = subprocess.Popen(
                [sys.executable, "-I", *([] if packages else ["-S"]), "-c", _inside(), str(given.fileno()), str(write)],
                stdin=words,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=home,
                env={**_ENVIRONMENT, "HOME": home, "TMPDIR": home},
                pass_fds=(given.fileno(), write),
                start_new_session=True,
            )
        try:
            end, (out, err, said) = _listen(process, report, limits, home)
        finally:  # also when the reward's own time is up
            _kill(process)
    passed, bounded = _reported(said, token)
    if end == "finished" and (process.returncode or len(passed) != len(tests)):
        end = "failed"
    if end != "finished":
        passed = bounded = ()
    return Execution(end, passed, out.decode(errors="replace"), err.decode(errors="replace"), bounded)


def _reported(said: bytes, token: str) -> tuple[tuple[bool, ...], tuple[str, ...]]:
    """The results that the sandboxed process reported, if they carry the token.

    A program that exits early, or that writes results itself, does not know the token.
    """
    with contextlib.suppress(ValueError, KeyError, TypeError):
        message = json.loads(said)
        if secrets.compare_digest(message["token"], token):
            return tuple(bool(item) for item in message["passed"]), tuple(map(str, message["bounded"]))
    return (), ()


def _hoards(home: str, limits: Limits) -> bool:
    """Whether there is more in a directory than 64 files of the greatest size, or more than 1,000 entries."""
    count = size = 0
    for folder, folders, files in os.walk(home):
        count += len(folders) + len(files)
        if count > 1000:
            return True
        for file in files:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(folder, file)).st_blocks * 512
    return size > 64 * max(limits.file, 1) * _MIB


def _listen(process: subprocess.Popen[bytes], report: IO[bytes], limits: Limits, home: str) -> tuple[str, list[bytes]]:
    """Read until the process ends, its time is up or there is too much."""
    assert process.stdout is not None and process.stderr is not None
    pipes: tuple[IO[bytes], ...] = (process.stdout, process.stderr, report)
    parts: list[bytes] = [b"" for _ in pipes]
    most = limits.output << 10
    deadline = time.monotonic() + limits.seconds
    with selectors.DefaultSelector() as selector:
        for index, pipe in enumerate(pipes):
            selector.register(pipe, selectors.EVENT_READ, index)
        while selector.get_map():
            for key, _ in selector.select(min(max(deadline - time.monotonic(), 0), 0.1)):
                chunk = os.read(key.fd, 1 << 16)
                parts[key.data] += chunk
                if not chunk:
                    selector.unregister(key.fileobj)
            if time.monotonic() >= deadline:
                return "timeout", parts
            if max(map(len, parts)) > most or _hoards(home, limits):
                return "output", [part[:most] for part in parts]
    try:
        process.wait(max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        return "timeout", parts
    return "finished", parts


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill whatever is left of a process and its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


@cache
def _inside() -> str:
    return Path(__file__).with_name("inside.py").read_text(encoding="utf-8")
