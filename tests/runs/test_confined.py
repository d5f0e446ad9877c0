"""In the sandbox a stranger's submission does its work, to the bit, and nothing else; what cannot be had is refused."""

import importlib
import json
import os
import re
import shutil
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from local_eval.__main__ import main
from local_eval.grader import Grader
from local_eval.isolation import sandbox
from local_eval.isolation.child import Failure
from local_eval.isolation.sandbox import LEVELS, SandboxError, check_level, hides, probe
from local_eval.methods.submission import Submission
from local_eval.runs.one_run import one_run
from local_eval.runs.plan import Sandbox, folders_of_drivers
from tests.conftest import GOOD, TINY

LACKING = probe()
needs_all = pytest.mark.skipif(any(LACKING.values()), reason=f"this kernel lacks layers of the sandbox: {LACKING}")
TRIES = """
import ctypes, os, signal, socket, subprocess, sys, tempfile, threading
from pathlib import Path
import numpy as np
libc = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise PermissionError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def shell(line):
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)

def elsewhere(work):
    "In a process of its own, as if that were free of the sandbox."
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise PermissionError("in a child")

"""
X86 = os.uname().machine == "x86_64" if hasattr(os, "uname") else False
DENIED = "PermissionError|Permission denied|not permitted|Invalid cross-device link"
ATTEMPTS = {  # what a submission tries; SECRET is a file of the user's, PORT listens, ORACLE is a retrained model
    "connects": "socket.create_connection(('127.0.0.1', PORT), 5)",
    "sends a datagram": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
    "connects to a service's socket": "socket.socket(socket.AF_UNIX).connect(SERVICE)",
    "sends through a pair of datagram ends": "socket.socketpair(type=socket.SOCK_DGRAM)[0].sendto(b'x', SERVICE)",
    "listens": "socket.socket().bind(('127.0.0.1', 0))",
    "asks for the weather in a shell": "shell(f'{sys.executable} -c \"import socket; socket.socket()\"')",
    "connects from a thread's process": "elsewhere(lambda: socket.create_connection(('127.0.0.1', PORT), 5))",
    "reads an oracle": "np.load(ORACLE)",
    "reads the oracles that come with the kit": "open(SHIPPED, 'rb')",
    "lists the results": "os.listdir(Path(ORACLE).parent)",
    "reads a secret": "open(SECRET).read()",
    "reads a secret in a shell": "shell(f'cat {SECRET}')",
    "reads a secret through a link of its own": "os.symlink(SECRET, 'link'); open('link').read()",
    "makes a hard link of a secret": "os.link(SECRET, 'hard'); open('hard').read()",
    "reads a secret by /proc": "open(f'/proc/self/root{SECRET}').read()",
    "reads the list of passwords": "open('/etc/shadow').read()",
    "reads the keys": "os.listdir(KEYS)",
    "overwrites": "open(SECRET, 'w')",
    "overwrites in a shell": "shell(f'echo x > {SECRET}')",
    "writes beside it": "open(SECRET + '.new', 'w')",
    "writes into the folder for temporary files": "open('/tmp/from-the-sandbox', 'w')",
    "writes into a package": "open(np.__file__, 'a')",
    "truncates": "os.truncate(SECRET, 0)",
    "removes": "os.remove(SECRET)",
    "renames": "os.rename(SECRET, 'mine')",
    "changes rights": "os.chmod(SECRET, 0o777)",
    "changes rights of what it may read": "os.fchmod(os.open(__file__, os.O_RDONLY), 0o777)",
    "changes a time": "os.utime(SECRET, (0, 0))",
    "kills its parent": "os.kill(os.getppid(), signal.SIGKILL)",
    "kills its parent in a shell": "shell(f'kill -9 {os.getppid()}')",
    "kills everything": "os.kill(-1, signal.SIGKILL) if PARENT != os.getppid() else os.kill(PARENT, 0)",
    "traces its parent": "call(101, 16, PARENT, 0, 0) if X86 else os.kill(PARENT, 0)",
    "reads its parent's memory": "open(f'/proc/{PARENT}/mem', 'rb')",
    "reads its parent's environment": "open(f'/proc/{PARENT}/environ', 'rb').read()",
    "changes its parent's limits": "import resource; resource.prlimit(PARENT, resource.RLIMIT_NOFILE, (0, 0))",
    "makes namespaces": "call(272, 0x10000000) if X86 else os.kill(PARENT, 0)",
    "makes a process in namespaces": "call(56, 0x10000011, 0, 0, 0, 0) if X86 else os.kill(PARENT, 0)",
    "mounts": "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) and os.kill(PARENT, 0)",
    "changes its root": "os.chroot('.')",
    "uses rings": "call(425, 8, ctypes.create_string_buffer(512))",
    "uses the other numbers of calls": "call(0x40000000 + 41, 2, 1, 0) if X86 else os.kill(PARENT, 0)",
    "writes to shared memory": "open('/dev/shm/from-the-sandbox', 'w')",
    "writes to the kernel": "open('/proc/sys/kernel/core_pattern', 'w')",
    "makes a device": "os.mknod('disk', 0o60666, os.makedev(8, 0)); open('disk', 'rb')",
    "raises its limits": "import resource; resource.setrlimit(resource.RLIMIT_CORE, (1, 1))",
    "asks for a token": "os.environ['API_TOKEN']",
}
OTHERWISE = {"asks for a token": "KeyError", "raises its limits": "ValueError|not allowed|PermissionError"}


@pytest.fixture
def listening():
    """A port and a service's socket; nothing may ever arrive there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server


@pytest.fixture
def trying(original_out, submission, listening, tmp_path, monkeypatch):
    """trying(lines, level) -> what one run of such a submission gives; nothing outside may have changed."""
    monkeypatch.setenv("API_TOKEN", "not-for-you")
    grader = Grader(TINY, original_out, runs=16)
    oracle = grader.folder / "oracles" / "0000.npz"
    oracle.parent.mkdir(exist_ok=True)
    oracle.write_bytes(b"retrained") if not oracle.exists() else None
    secret, service = tmp_path / "secret", socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    secret.write_text("mine")
    service.bind(str(tmp_path / "service"))
    shipped = str(next((sandbox.Path(sandbox.__file__).parents[1] / "tasks").glob("*_oracles.npz")))
    known = {"PORT": listening.getsockname()[1], "SECRET": str(secret), "ORACLE": str(oracle), "SHIPPED": shipped}
    known |= {"SERVICE": str(tmp_path / "service"), "PARENT": os.getpid(), "X86": X86, "KEYS": os.path.expanduser("~")}
    head = TRIES + "".join(f"{name} = {value!r}\n" for name, value in known.items())

    def trying(lines, level="full"):
        path = submission(head + GOOD + "".join(f"    {line}\n" for line in lines.splitlines()))
        plan = replace(grader.run_plan(path), timeout=60.0, sandbox=Sandbox(level, (str(original_out),)))
        before = secret.stat(), sorted(tmp_path.iterdir()), psutil.Process().rlimit(psutil.RLIMIT_NOFILE)
        found = one_run(plan, 3)
        about = secret.stat()
        assert secret.read_text() == "mine"
        assert (before[0].st_mode, before[0].st_mtime) == (about.st_mode, about.st_mtime)
        assert before[1:] == (sorted(tmp_path.iterdir()), psutil.Process().rlimit(psutil.RLIMIT_NOFILE))
        with pytest.raises(BlockingIOError):
            listening.accept()
        with pytest.raises(BlockingIOError):
            service.recv(1, socket.MSG_DONTWAIT)
        return found

    yield trying
    service.close()


ALL = """
import json
said = {}
for what, line in ATTEMPTS.items():
    try:
        exec(line, globals())
        said[what] = "done"
    except Exception as error:
        said[what] = f"{type(error).__name__}: {error}"
raise RuntimeError("TOLD" + json.dumps(said))
"""


@needs_all
def test_what_a_submission_tries_is_refused(trying):
    found = trying(ALL.replace("ATTEMPTS", repr(ATTEMPTS)))
    assert "TOLD" in found.reason, found.reason[:3000]
    said = json.loads(found.reason.partition("TOLD")[2].rpartition("}")[0] + "}")
    assert said.keys() == ATTEMPTS.keys(), "every attempt came back, none ended the process"
    for what, reported in said.items():
        assert re.search(OTHERWISE.get(what, DENIED), reported), f"it {what}: {reported}"


@needs_all
def test_a_run_that_fails_by_it_says_that_it_was_the_sandbox(trying):
    found = trying(ATTEMPTS["reads a secret"])
    assert "PermissionError" in found.reason and "it ran in the sandbox" in found.reason


@needs_all
def test_the_attempts_would_succeed_without_the_layers_that_refuse_them(trying):
    """Else the table above would show nothing."""
    lines = "open(SECRET).read()\nos.listdir(Path(ORACLE).parent)\nos.kill(PARENT, 0)\nos.environ['PATH']"
    assert not isinstance(trying("socket.socket().close()\n" + lines, "limits"), Failure)


KILLS = """os.kill(os.getpid(), 0)
for pid in (PARENT, -1, 1):
    try:
        os.kill(pid, 0)
        raise RuntimeError("a signal went out")
    except PermissionError:
        pass"""


@needs_all
def test_signals_stay_inside_where_landlock_does_not_keep_them(trying, monkeypatch):
    monkeypatch.setattr(sandbox, "SCOPES", 99)
    assert not isinstance(trying(KILLS), Failure)


USES = """
import os, subprocess, tempfile, threading
import numpy as np, torch
from common import losses
from torch.nn import functional as F

def unlearning(net, retain_loader, forget_loader, val_loader):
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    for batch in retain_loader:
        optimizer.zero_grad()
        F.cross_entropy(net(batch["image"]), batch["age_group"]).backward()
        optimizer.step()
    with tempfile.TemporaryDirectory() as folder:
        torch.save(net.state_dict(), os.path.join(folder, "best.pth"))
        net.load_state_dict(torch.load(os.path.join(folder, "best.pth")))
    open("notes.txt", "w").write("relative paths are its own folder's")
    open(os.path.expanduser("~/cache"), "w").write("so is its home")
    thread = threading.Thread(target=print, args=("hello",))
    thread.start(); thread.join()
    assert subprocess.run(["/bin/sh", "-c", "echo $((1 + 1))"], capture_output=True).stdout == b"2\\n"
"""


@needs_all
def test_a_good_submission_gives_the_same_to_the_bit_with_and_without(original_out, submission, tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox.tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    plan = replace(Grader(TINY, original_out).run_plan(submission(USES)), timeout=60.0)
    plain = one_run(plan, 5)
    there = sorted(tmp_path.iterdir())
    importlib.invalidate_caches()  # as when a folder has changed: import must look into all of them again
    for level in LEVELS:
        found = one_run(replace(plan, sandbox=Sandbox(level, (str(original_out),))), 5)
        assert not isinstance(found, Failure), found
        assert np.array_equal(found.evaluation.forget_logits, plain.evaluation.forget_logits)
        assert found.evaluation.test_accuracy == plain.evaluation.test_accuracy
        assert found.identity == plain.identity
        assert found.facts["sandbox"] == {"level": level, "layers": list(LEVELS[level])}
        assert "sandbox" not in plain.facts and found.facts.keys() - {"sandbox"} == plain.facts.keys()
        assert sorted(tmp_path.iterdir()) == there, "its folder is gone"


@pytest.mark.parametrize("lost, named", [("landlock", "files"), ("seccomp", "network")])
def test_a_level_that_cannot_be_had_is_refused_before_anything_runs(lost, named, monkeypatch, submission, capsys):
    if lost == "landlock":
        monkeypatch.setattr(sandbox, "landlock_abi", lambda: 2)
    else:
        monkeypatch.setattr(sandbox, "no_seccomp", lambda: "the kernel has no seccomp")
    with pytest.raises(SandboxError, match=f"cannot be had here.*{named}"):
        check_level("full")
    assert main(["check", submission(), "--task", TINY, "--device", "cpu", "--sandbox"]) == 2
    reported = capsys.readouterr().err
    assert "nothing was run" in reported
    if not any(LACKING.values()):
        assert f"--sandbox {'no-files' if lost == 'landlock' else 'limits'}" in reported
        assert main(["sandbox"]) == 1


@needs_all
@pytest.mark.parametrize("layer", LEVELS["full"])
def test_a_layer_that_fails_at_the_last_moment_ends_the_run_before_the_submission_is_read(trying, monkeypatch, layer):
    def fails(*_):
        raise OSError(22, "no more of these")

    monkeypatch.setitem(sandbox._ENTER, layer, fails)
    found = trying("print('I ran')")
    assert f"layer {layer} failed" in found.reason and "nothing was run" in found.reason and not found.printed


@needs_all
def test_folders_that_must_be_readable_may_not_hold_results(submission):
    assert hides(["/usr", "/a/b"], ["/a/b/c", "/d"]) == ("/a/b", "/a/b/c")
    assert hides(["/a/b/c"], ["/a/b"]) is None
    with pytest.raises(SandboxError, match="move it elsewhere"):
        Sandbox("full", (os.path.join(sys.prefix, "outputs"),)).check(Submission.find(submission()), "cpu")


@needs_all
@pytest.mark.usefixtures("without_a_pool", "score_alone")
def test_grade_in_the_sandbox_says_so_and_scores_the_same(tiny_graded, capsys):
    assert main(["sandbox"]) == 0
    assert "levels: full" in capsys.readouterr().out
    (path,) = tiny_graded.rglob("score.json")
    found = [json.loads(path.read_text())]
    shutil.rmtree(path.parent)
    given = ["--task", TINY, "--runs", "16", "--device", "cpu", "--workers", "1", "--out", str(tiny_graded / "out")]
    assert main(["grade", str(tiny_graded / "mine.py"), *given, "--sandbox"]) == 0
    (path,) = tiny_graded.rglob("score.json")
    found.append(json.loads(path.read_text()))
    assert "sandbox" not in found[0] and found[1]["sandbox"] == {"full": 16, "none": 0}
    assert found[0]["epsilons"] == found[1]["epsilons"] and found[0]["score"] == found[1]["score"]


def name_a_thread():
    """As pthread_setname_np does it for another thread than the calling one."""
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        file = os.open(f"/proc/self/task/{other.native_id}/comm", os.O_RDWR)
        os.write(file, b"cuda00001")
        os.close(file)
    finally:
        done.set()
        other.join()


def in_a_cage(device, submission, tmp_path, work):
    """What goes wrong when `work()` is done in the cage for a device; empty if nothing does."""
    cage = Sandbox("full").cage(Submission.find(submission(GOOD)), device)
    (tmp_path / "own").mkdir(exist_ok=True)
    return sandbox._tried(lambda folder, _: (cage.enter(folder), work()), str(tmp_path / "own"), "")


@needs_all
def test_for_a_card_drivers_may_name_the_threads_of_the_process_and_see_no_more(submission, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    assert in_a_cage("cuda", submission, tmp_path, name_a_thread) == ""
    assert re.search(DENIED, in_a_cage("cpu", submission, tmp_path, name_a_thread))
    for path in (f"/proc/self/task/{{}}/root{secret}", f"/proc/self/task/{{}}/cwd/..{secret}"):
        found = in_a_cage(
            "cuda", submission, tmp_path, lambda p=path: Path(p.format(threading.get_native_id())).read_text()
        )
        assert re.search(f"{DENIED}|No such file", found), path


@needs_all
def test_a_card_that_starts_outside_of_the_sandbox_alone_is_refused_before_anything_runs(
    submission, tmp_path, monkeypatch
):
    """Asked of the driver by a stand-in: one that reads a file, one that starts anywhere, one that starts nowhere."""
    needed, mine = tmp_path / "of the driver", Submission.find(submission(GOOD))
    needed.write_text("x")
    monkeypatch.setattr(sandbox, "start_cuda", needed.read_text)
    with pytest.raises(SandboxError, match="CUDA starts, but not in the sandbox .*Permission denied"):
        Sandbox("full").check(mine, "cuda")
    Sandbox("full").check(mine, "cpu")
    Sandbox("no-files").check(mine, "cuda")
    for start in (lambda: None, tmp_path.joinpath("none").read_text):
        monkeypatch.setattr(sandbox, "start_cuda", start)
        Sandbox("full").check(mine, "cuda")


@needs_all
def test_a_driver_that_lies_elsewhere_can_be_read(submission, tmp_path, monkeypatch):
    real = tmp_path / "drivers"
    real.mkdir()
    (real / "libcuda.so.550").write_text("x")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libcuda.so.1").symlink_to(real / "libcuda.so.550")
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/nowhere:{tmp_path / 'lib'}:")
    assert folders_of_drivers() == (str(real), str(tmp_path / "lib"))
    assert in_a_cage("cuda", submission, tmp_path, (tmp_path / "lib" / "libcuda.so.1").read_text) == ""
    assert in_a_cage("cpu", submission, tmp_path, (tmp_path / "lib" / "libcuda.so.1").read_text)
