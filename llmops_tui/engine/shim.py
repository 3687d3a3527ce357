"""The keeper of one attempt: starts the job, waits, sweeps up, and writes how it ended. Standard library only.

    python -I -S shim.py RUN_DIR ATTEMPT [DESCRIPTOR …]

It outlives the engine. While it lives it holds `shim.lock`; the job tree inherits `tree.lock`. An attempt is begun at most
once: whoever creates `attempt-N/claim` owns it, so starting a shim twice for one attempt is harmless. The descriptors it is
given hold the job's GPUs; they are the job tree's too, and closed when that is gone. Started by root for another user
(launch.json names them), only the job itself becomes that user: between fork and exec, before anything of theirs is opened.
Exit codes: 0 exit.json is written; 73 it could not claim; 74 it could not write exit.json; 75 another shim or its job tree
lives; 76 the attempt was already claimed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import signal
import sys
import time

CANNOT_CLAIM, CANNOT_TELL, BUSY, CLAIMED = 73, 74, 75, 76
_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
_PR_SET_CHILD_SUBREAPER = 36
_EXIT_ROOM_BYTES = 8192
_TELL_SECONDS = 3600.0
_FOREVER = 3600.0
# What no retry heals: the directory is gone or not ours.
_HOPELESS = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM}


def main(arguments: list[str]) -> int:
    """Run one attempt to its end."""
    run_dir, number = os.path.abspath(arguments[0]), int(arguments[1])
    attempt_dir = os.path.join(run_dir, f"attempt-{number}")
    if os.getpid() != os.getsid(0):
        os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    locks = [take_lock(os.path.join(run_dir, name)) for name in ("shim.lock", "tree.lock")]
    if None in locks:
        return BUSY
    try:
        if not claim(attempt_dir):
            return CLAIMED
        exit_file = reserve(attempt_dir)
    except OSError as error:
        complain(f"the attempt could not be claimed: {error}")
        return CANNOT_CLAIM
    keeper = Keeper(run_dir, attempt_dir, int(locks[1] or 0))
    try:
        outcome = keeper.run()
    except Exception as error:  # noqa: BLE001 - whatever it is: the tree goes, and it is told
        keeper.sweep()
        outcome = keeper.outcome("exec_failed", f"the shim failed: {type(error).__name__}: {error}")
    # The tree is gone: let everybody see it, and have its GPUs, while exit.json waits for disk space.
    for descriptor in (int(locks[1] or 0), *map(int, arguments[2:])):
        os.close(descriptor)
    return tell(attempt_dir, exit_file, outcome)


def take_lock(path: str) -> int | None:
    """A descriptor that holds the lock, or None when another process holds it for good.

    Readers test the lock by a shared lock for a moment: where a shared lock is to be had, nobody but such readers is there.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            time.sleep(0.001 + (os.getpid() % 7) * 0.001)


def claim(attempt_dir: str) -> bool:
    """Own the attempt, durably; False when it has an owner. The file names this process for those who stop it."""
    try:
        descriptor = os.open(os.path.join(attempt_dir, "claim"), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return False
    try:
        mine = {"shim_pid": os.getpid(), "shim_start_ticks": start_ticks(os.getpid()), "boot_id": boot_id(), "t": time.time()}
        # A full disk is no reason to give up an attempt that is owned already: the name alone is the claim.
        with contextlib.suppress(OSError):
            os.write(descriptor, json.dumps(mine).encode())
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(attempt_dir)
    return True


def reserve(attempt_dir: str) -> int | None:
    """Take disk blocks for exit.json now, so that a disk that fills up later cannot keep it from being written."""
    try:
        descriptor = os.open(os.path.join(attempt_dir, ".exit.json.tmp"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.pwrite(descriptor, b" " * _EXIT_ROOM_BYTES, 0)
        os.fsync(descriptor)
    except OSError:
        return None  # tell() opens it again when there is something to tell
    return descriptor


class Keeper:
    """The job's life from fork to the last grandchild."""

    def __init__(self, run_dir: str, attempt_dir: str, tree_lock: int) -> None:
        self._run_dir = run_dir
        self._attempt_dir = attempt_dir
        self._tree_lock = tree_lock
        self._pid = 0
        self._status: int | None = None
        self._swept: list[int] = []
        self._cpu_seconds = 0.0
        self._max_rss_bytes = 0
        self._untold_start: dict[str, object] | None = None
        self._oom_kills = oom_kills()

    def run(self) -> dict[str, object]:
        with open(os.path.join(self._attempt_dir, "launch.json"), "rb") as file:
            launch = json.load(file)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        if signal.SIGTERM in signal.sigpending():
            return self.outcome("stopped", "stopped before the job was started")
        begun = time.monotonic()
        problem = self._spawn(launch)
        if problem:
            return self.outcome("exec_failed", problem)
        self._untold_start = {
            "shim_pid": os.getpid(),
            "pid": self._pid,
            "boot_id": boot_id(),
            "shim_start_ticks": start_ticks(os.getpid()),
            "start_ticks": start_ticks(self._pid),
            "t": time.time(),
        }
        timeout = launch.get("timeout_seconds")
        reason = self._wait(begun + timeout if timeout is not None else None, float(launch.get("grace_seconds") or 0.0))
        self.sweep()
        return self.outcome(reason, "")

    def outcome(self, reason: str, detail: str) -> dict[str, object]:
        """What exit.json says."""
        status = self._status
        return {
            "code": os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None,
            "signal": os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else None,
            "t": time.time(),
            "reason": reason,
            "detail": detail[:1000],
            "swept": self._swept[:100],
            "cpu_seconds": round(self._cpu_seconds, 3),
            "max_rss_bytes": self._max_rss_bytes,
            "oom_kills": {name: count - self._oom_kills.get(name, count) for name, count in oom_kills().items()},
        }

    def sweep(self) -> None:
        """Kill and reap until no descendant is left. One that cannot be killed (disk sleep) is waited for."""
        pause = 0.005
        while self._reap():
            for pid in descendants():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
                    if pid != self._pid and pid not in self._swept:
                        self._swept.append(pid)
            signal.sigtimedwait({signal.SIGCHLD}, pause)
            pause = min(1.0, pause * 1.5)

    def _spawn(self, launch: dict[str, object]) -> str:
        """Fork and exec; what went wrong, or nothing. The pipe tells only that and closes at exec: no job gets one."""
        readable, writable = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            try:
                self._become(launch)
            except BaseException as error:  # noqa: BLE001 - told to the parent
                text = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.filename else str(error)
                os.write(writable, (text or type(error).__name__).encode("utf-8", "replace")[:4000])
            finally:
                os._exit(127)
        os.close(writable)
        self._pid = pid
        problem = b""
        while chunk := os.read(readable, 4096):
            problem += chunk
        os.close(readable)
        if problem:
            os.waitpid(pid, 0)
            self._pid = 0
        return problem.decode("utf-8", "replace")

    def _become(self, launch: dict[str, object]) -> None:
        argv, env, cwd = launch["argv"], launch["env"], launch["cwd"]
        assert isinstance(argv, list)
        assert isinstance(env, dict)
        os.setsid()
        become_user(launch.get("user"))
        if isinstance(launch.get("umask"), int):
            os.umask(int(str(launch["umask"])))
        log = os.open(os.path.join(self._run_dir, "stdout.log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        for descriptor in (log, null):
            if descriptor > 2:
                os.close(descriptor)
        os.set_inheritable(self._tree_lock, True)
        for number in (signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        os.chdir(str(cwd))
        try:
            os.execvpe(argv[0], argv, env)
        except OSError as error:
            raise OSError(error.errno, error.strerror, argv[0]) from None

    def _wait(self, timeout_at: float | None, grace: float) -> str:
        """Until the job's own process is gone. Returns exited, stopped or timeout."""
        reason, kill_at = "exited", None
        while True:
            self._tell_start()
            self._reap()
            if self._status is not None:
                return reason
            now = time.monotonic()
            if kill_at is not None and now >= kill_at:
                self._signal_group(signal.SIGKILL)
                kill_at = now + 1.0
            elif kill_at is None and timeout_at is not None and now >= timeout_at:
                reason, kill_at = "timeout", now + grace
                self._terminate()
            deadlines = [at for at in (kill_at if kill_at is not None else timeout_at,) if at is not None]
            pause = max(0.0, min(deadlines) - now) if deadlines else _FOREVER
            if self._untold_start is not None:
                pause = min(pause, 0.5)
            told = signal.sigtimedwait(_SIGNALS, min(pause, _FOREVER))
            if told is not None and told.si_signo != signal.SIGCHLD:
                # A second request may shorten the grace, never lengthen it.
                end = time.monotonic() + self._grace(grace)
                if kill_at is None:
                    reason, kill_at = "stopped", end
                    self._terminate()
                else:
                    kill_at = min(kill_at, end)

    def _grace(self, usual: float) -> float:
        try:
            with open(os.path.join(self._attempt_dir, "stop.json"), "rb") as file:
                return max(0.0, float(json.load(file)["grace_seconds"]))
        except (OSError, ValueError, KeyError, TypeError):
            return usual

    def _terminate(self) -> None:
        self._signal_group(signal.SIGTERM)
        self._signal_group(signal.SIGCONT)  # a stopped job hears nothing until it goes on

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, number)

    def _reap(self) -> bool:
        """Collect whoever died; whether children are left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            self._cpu_seconds += usage.ru_utime + usage.ru_stime
            self._max_rss_bytes = max(self._max_rss_bytes, usage.ru_maxrss * 1024)
            if pid == self._pid:
                self._status = status

    def _tell_start(self) -> None:
        if self._untold_start is None:
            return
        temporary = os.path.join(self._attempt_dir, ".started.json.tmp")
        try:
            with open(temporary, "w") as file:
                json.dump(self._untold_start, file)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, os.path.join(self._attempt_dir, "started.json"))
        except OSError as error:
            if error.errno not in _HOPELESS:
                return  # again at the next turn
        self._untold_start = None


def become_user(user: object) -> None:
    """Give up root for good; nothing where no user is named. Raises OSError or AssertionError: then nothing may be started."""
    if user is None:
        return
    assert isinstance(user, dict)
    uid, gid = int(user["uid"]), int(user["gid"])
    os.setgroups([int(group) for group in user["groups"]])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid) or uid == 0:
        raise AssertionError(f"could not become uid {uid}")


def descendants() -> list[int]:
    """Every process below this one, parents before children."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            if fields[0] != b"Z":
                children.setdefault(int(fields[1]), []).append(int(name))
    found = list(children.get(os.getpid(), []))
    for pid in found:  # grows while it is walked
        found.extend(children.get(pid, []))
    return found


def oom_kills() -> dict[str, int]:
    """How many processes the kernel has killed so far because memory ran out: in the job's control group, and on the whole box.

    `memory.events` of the group (`memory.oom_control` where memory is cgroup v1's) and /proc/vmstat; what cannot be read is left out.
    """
    places = {"box": "/proc/vmstat"}
    with contextlib.suppress(OSError, ValueError), open("/proc/self/cgroup") as file:
        for line in file:  # v2's line comes last
            number, kinds, group = line.rstrip("\n").split(":", 2)
            if "memory" in kinds.split(","):
                places["group"] = f"/sys/fs/cgroup/memory{group.rstrip('/')}/memory.oom_control"
            elif number == "0":
                places.setdefault("group", f"/sys/fs/cgroup{group.rstrip('/')}/memory.events")
    counts = {}
    for name, path in places.items():
        with contextlib.suppress(OSError, ValueError, StopIteration), open(path) as file:
            counts[name] = next(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    return counts


def tell(attempt_dir: str, descriptor: int | None, outcome: dict[str, object]) -> int:
    """exit.json by write, fsync, rename, fsync of the directory; tried again for an hour while the disk is full."""
    content = json.dumps(outcome).encode() + b"\n"
    temporary, path = os.path.join(attempt_dir, ".exit.json.tmp"), os.path.join(attempt_dir, "exit.json")
    until, pause = time.monotonic() + _TELL_SECONDS, 0.1
    while True:
        try:
            if descriptor is None:
                descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.pwrite(descriptor, content, 0)
            os.ftruncate(descriptor, len(content))
            os.fsync(descriptor)
            os.rename(temporary, path)
            sync_directory(attempt_dir)
            return 0
        except OSError as error:
            complain(f"exit.json could not be written: {error}")
            if error.errno in _HOPELESS or time.monotonic() > until:
                return CANNOT_TELL
        time.sleep(pause)
        pause = min(10.0, pause * 2)


def complain(text: str) -> None:
    """A line in the run's log, which lies on the disk that may be full."""
    with contextlib.suppress(OSError):
        os.write(2, f"shim: {text}\n".encode())


def sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def start_ticks(pid: int) -> int:
    """Field 22 of /proc/PID/stat: clock ticks after boot at which the process began; 0 when it is gone (man 5 proc)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except OSError:
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
