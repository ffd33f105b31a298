"""Programs that hang, fork, hoard, write, exit early or shout: each costs itself only."""

import os
import time
from pathlib import Path

import pytest

from geomalign.tasks import Problem
from geomalign.tasks.verifiers import sandbox
from geomalign.tasks.verifiers.programs import UnitTests
from geomalign.tasks.verifiers.sandbox import Execution, Limits

pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits of processes are Unix's")


def run(code: str, *tests: str, **limits: float) -> Execution:
    return sandbox.run(code, tests or ("pass",), limits=Limits(**limits))  # type: ignore[arg-type]


def test_each_test_passes_or_fails_by_itself() -> None:
    ran = run("def f(x): return x + 1", "assert f(1) == 2", "assert f(1) == 3", "f()", "assert f(2) == 3")
    assert ran.end == "finished" and ran.passed == (True, False, False, True)


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time\ntime.sleep(100)",
        "import signal, time\nsignal.alarm(0); signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(100)",
        "import os, time\nfor fd in range(10):\n    try: os.close(fd)\n    except OSError: pass\ntime.sleep(100)",
    ],
    ids=["loop", "sleep", "signals", "closed"],
)
def test_what_does_not_end_is_ended(code: str) -> None:
    began = time.monotonic()
    assert run(code, seconds=0.5).end == "timeout"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "code, says",
    [
        ("import os\nfor _ in range(100): os.fork()", "os.fork is not allowed"),
        ("import subprocess\nsubprocess.run(['true'])", "not allowed"),
        ("import threading\nthreading.Thread(target=print).start()", "can't start new thread"),
        ("import os\nos.kill(os.getppid(), 9)", "os.kill is not allowed"),
        ("import socket\nsocket.create_connection(('localhost', 9))", "not allowed"),
        ("x = bytearray(1 << 30)", "MemoryError"),
        ("open('big', 'wb').write(bytes(3 << 20))", "File too large"),
        ("files = [open(str(i), 'w') for i in range(100)]", "Too many open files"),
        ("raise SystemExit(0)", ""),
        ("import os\nos._exit(0)", ""),
        ("import sys\nsys.exit('bye')", "bye"),
        ("import os\nos.write(4, b'{\"passed\": [true]}'); os._exit(0)", ""),
        ("def f(:", "SyntaxError"),
        ("f = lambda: f()\nf()", "RecursionError"),
    ],
    ids=range(14),
)
def test_what_goes_beyond_its_limits_or_exits_early_has_passed_nothing(code: str, says: str) -> None:
    ran = run(code)
    assert ran.end == "failed" and ran.passed == () and says in ran.err, ran


def test_the_limit_of_processes_is_the_kernels() -> None:
    """Around the audit hook, through C: a bounded fork bomb, of which no process is made."""
    ran = run(
        "import ctypes\nfork = ctypes.CDLL(None).fork\nmade = [fork() for _ in range(50)]\nprint(sorted(set(made)))",
        seconds=10,
    )
    assert ran.end == "finished" and ran.out == "[-1]\n", ran


def test_what_the_kernel_bounds_holds_in_c_too(tmp_path: Path) -> None:
    """Around the audit hook: other files, every network, other processes."""
    (tmp_path / "secret.txt").write_text("mine")
    bounds = sandbox.kernel_bounds()
    asked = "import ctypes, os, struct\nlibc = ctypes.CDLL(None)\n"
    address = "struct.pack('>HH4s8x', 0x0200, 9, bytes([127, 0, 0, 1]))"
    for bound, code, wanted in [
        ("files", f"print(libc.open({os.fsencode(tmp_path / 'secret.txt')!r}, 0))", "-1"),
        ("files", f"print(libc.open({os.fsencode(tmp_path / 'new')!r}, 65, 0o600))", "-1"),
        ("files", "print(libc.open(b'own', 65, 0o600) > 0)", "True"),
        ("network", f"print(libc.sendto(libc.socket(2, 2, 0), b'x', 1, 0, {address}, 16))", "-1"),
        ("network", f"print(libc.connect(libc.socket(2, 1, 0), {address}, 16))", "-1"),
        ("signals", "print(libc.kill(os.getppid(), 0))", "-1"),
    ]:
        if bound in bounds:
            assert run(asked + code).out == wanted + "\n", (bound, code)
    if "files" in bounds:
        assert "PermissionError" in run(f"open({str(tmp_path / 'secret.txt')!r}).read()").err


def test_files_without_number_end_the_program() -> None:
    for code in (
        "for i in range(10**7): open(str(i), 'w').close()",
        "for i in range(900): open(str(i), 'wb').write(x)",
    ):
        ran = run(f"x = bytes(1 << 20)\n{code}\nimport time; time.sleep(1)", seconds=20)
        assert ran.end == "output" and ran.passed == (), ran


def test_a_hoarder_of_small_pieces_runs_out_of_memory() -> None:
    ran = run("x = []\nwhile True: x.append(bytearray(1 << 20))", memory=128, seconds=20)
    assert ran.end == "failed" and "MemoryError" in ran.err


def test_a_program_that_shouts_is_cut_off() -> None:
    ran = run("while True: print('spam' * 100)", seconds=30, output=8)
    assert ran.end == "output" and len(ran.out) == 8 << 10


def test_it_writes_into_its_own_directory_which_goes_and_nowhere_else(tmp_path: Path) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text("mine")
    where = "import os; print(os.getcwd()); open('a.txt', 'w').write('x'); print(os.listdir())\n"
    inside = run(where + "import tempfile\nwith tempfile.TemporaryDirectory() as d: open(d + '/b', 'w').close()")
    directory, files = inside.out.splitlines()
    assert inside.passed == (True,) and files == "['a.txt']" and not Path(directory).exists()
    for attempt in (
        f"open({str(kept)!r}, 'w')",
        f"import os; os.remove({str(kept)!r})",
        f"import os; os.rename({str(kept)!r}, 'here')",
        f"import os; os.symlink({str(tmp_path)!r}, 'link'); open('link/kept.txt', 'w')",
        f"import shutil; shutil.rmtree({str(tmp_path)!r})",
        f"import pathlib; pathlib.Path({str(tmp_path)!r}, 'new').mkdir()",
    ):
        ran = run(attempt)
        assert ran.end == "failed" and "may not be changed" in ran.err, (attempt, ran)
    assert kept.read_text() == "mine" and os.listdir(tmp_path) == ["kept.txt"]


def test_it_has_neither_the_environment_nor_the_directory_nor_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOMALIGN_SECRET", "hunter2")
    ran = run("import os, sys\nprint('GEOMALIGN_SECRET' in os.environ, sys.flags.isolated, os.getuid() == 0, sys.argv)")
    assert ran.out == "False 1 False ['program.py']\n", ran
    assert run("import numpy").end == "failed"
    assert sandbox.run("import numpy\nassert numpy.ones(3).sum() == 3", packages=True).end == "finished"
    asynchronous = "import asyncio\nasync def f(): await asyncio.sleep(0); return 4\nassert asyncio.run(f()) == 4"
    assert run(asynchronous).end == "finished"


def test_an_alarm_of_the_trainer_leaves_no_process_behind() -> None:
    """The reward's own time limit comes as an exception; the program is killed, its sample masked."""
    from geomalign.tasks import score
    from geomalign.tasks.table import Dataset

    problem = Problem("p", "", 1, (), {"tests": ["pass"]})
    task = Dataset({1: (problem,)}, {}, UnitTests(seconds=30))
    before = _children()
    (reward,) = score(task, [problem], ["while True: pass"], [True], timeout=0.7)
    assert reward != reward and _children() == before


def _children() -> set[str]:
    mine = str(os.getpid())
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if stat.read_text().rpartition(")")[2].split()[1] == mine:
                found.add(stat.parent.name)
        except OSError:
            continue
    return found


# ---------------------------------------------------------------------- the verifier


def problem(**row: object) -> Problem:
    return Problem("def double(x):\n", "", 1, (), row)


@pytest.mark.parametrize(
    "row",
    [
        {"tests": ["assert double(2) == 4", "assert double(0) == 0"]},
        {"test": "def check(candidate):\n    assert candidate(3) == 6", "entry_point": "double"},
        {"test_list": ["assert K == double(2)"], "test_setup_code": "K = 4"},
        {"tests": '["assert double(2) == 4"]'},
    ],
    ids=["asserts", "check", "setup", "json"],
)
def test_asserts_of_three_kinds(row: dict[str, object]) -> None:
    verify = UnitTests()
    verify.prepare([problem(**row)])
    assert verify("Here:\n```python\ndef double(x):\n    return 2 * x\n```\nThat is it.", problem(**row)) == 1.0
    assert verify("def double(x):\n    return x + 1", problem(**row)) == 0.0
    assert UnitTests(continues=True)("    return x + x\n", problem(**row)) == 1.0


def test_input_and_output() -> None:
    echo = "a, b = input().split()\nprint(int(a) + int(b), ' ')\nraise SystemExit"
    row = {"tests": [{"input": "1 2\n", "output": "3\n"}, {"input": "2 2", "output": ["4"]}]}
    assert UnitTests()(echo, problem(**row)) == 1.0
    row = {"input_output": '{"inputs": ["1 2", "5 5"], "outputs": ["3", "11"]}'}
    assert UnitTests()(echo, problem(**row)) == 0.0
    assert UnitTests(partial=True)(echo, problem(**row)) == 0.5
    assert UnitTests(partial=True, seconds=1)("while True: pass", problem(**row)) == 0.0


def test_rows_without_tests_are_refused() -> None:
    for row in ({}, {"tests": []}, {"tests": [3]}, {"tests": None}):
        with pytest.raises(ValueError, match="holds no tests"):
            UnitTests().prepare([problem(**row)])
    with pytest.raises(ValueError, match="memory >= 32"):
        Limits(memory=1)
