"""Python programs of unknown origin, run one at a time in a process of their own with limits.

What it keeps in bounds: wall-clock and processor time, address space, size of a file, open files, output, core dumps,
new processes and threads (none). The process is a session of its own and is killed with all of its group; it starts in
an empty directory that is removed, without the environment, in Python's isolated mode; as root it turns into nobody
first. Writing outside of its directory, connecting, and starting or killing processes are refused by an audit hook.

What it does not: it is no boundary against a program that means harm. What the user may read it may read; the audit
hook can be got around from C; the number of files is not limited; and the tests run in the program's own process, so
that a program can look for them. Where that matters, verify in a container or a virtual machine, by a verifier of your
own.
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
        file: size of one file in MiB; 0 forbids to write into files.
        output: KiB of standard output and of standard error; more ends the program.
    """

    seconds: float = 3.0
    memory: int = 512
    file: int = 1
    output: int = 64

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and self.memory >= 32 and self.file >= 0 and self.output >= 1):
            raise ValueError(f"{self}: seconds must be > 0, memory >= 32 (MiB), file >= 0 (MiB), output >= 1 (KiB).")


@dataclass(frozen=True)
class Ran:
    """What became of a program.

    Args:
        end: `"finished"`; `"failed"`: it raised, exited early or was killed by a limit; `"timeout"`; `"output"`: it
            wrote too much.
        passed: of every test, in order; empty unless it finished.
        out, err: the beginning of its standard output and standard error.
    """

    end: str
    passed: tuple[bool, ...]
    out: str
    err: str


def run(
    code: str, tests: Sequence[str] = (), stdin: str = "", limits: Limits | None = None, packages: bool = False
) -> Ran:
    """Run a program, then pieces of code in its name space; a piece passes if it does not raise.

    Args:
        packages: whether installed packages can be imported, or the standard library alone.

    Raises:
        ValueError: this system has no such limits, or refuses them.
    """
    available()
    return _run(code, tests, stdin, limits or Limits(), packages)


@cache
def available() -> None:
    """Make sure, once, that programs can be run here.

    Raises:
        ValueError: they cannot; the reason is named.
    """
    if os.name != "posix":
        raise ValueError("programs can be verified on Unix only: elsewhere a process has no such limits.")
    ran = _run("import fractions, heapq", ["pass"], "", Limits(seconds=30), False)
    if ran.passed != (True,):
        raise ValueError(
            f"programs cannot be verified here: a test program {ran.end}: {ran.err.strip() or 'no message'}. "
            "Often the system forbids root to become another user; start the training as an ordinary user."
        )


def _run(code: str, tests: Sequence[str], stdin: str, limits: Limits, packages: bool) -> Ran:
    token = secrets.token_hex(16)
    seconds = math.ceil(limits.seconds) + 1
    job = {
        "code": code,
        "tests": list(tests),
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
            end, (out, err, said) = _listen(process, report, limits)
        finally:  # also when the reward's own time is up
            _kill(process)
    passed = _passed(said, token)
    if end == "finished" and (process.returncode or len(passed) != len(tests)):
        end = "failed"
    return Ran(end, passed if end == "finished" else (), *(part.decode(errors="replace") for part in (out, err)))


def _passed(said: bytes, token: str) -> tuple[bool, ...]:
    """What the inside reported; a program that exits early, or claims to have passed, does not know the token."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        message = json.loads(said)
        if secrets.compare_digest(message["token"], token):
            return tuple(bool(item) for item in message["passed"])
    return ()


def _listen(process: subprocess.Popen[bytes], report: IO[bytes], limits: Limits) -> tuple[str, list[bytes]]:
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
            for key, _ in selector.select(max(deadline - time.monotonic(), 0)):
                chunk = os.read(key.fd, 1 << 16)
                parts[key.data] += chunk
                if not chunk:
                    selector.unregister(key.fileobj)
            if time.monotonic() >= deadline:
                return "timeout", parts
            if max(map(len, parts)) > most:
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
