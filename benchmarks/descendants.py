"""The processes that this one started, and all that those started, until none is left. Linux only."""

import ctypes
import signal
import sys

import psutil

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
PATIENCE_SECONDS = 20  # after SIGTERM


def adopt() -> None:
    """From now on a descendant whose parent ends becomes our child, whatever session it is in: none can get lost."""
    if sys.platform != "linux":
        raise NotImplementedError("orphaned processes are adopted by prctl, which Linux alone has")
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def running() -> list[psutil.Process]:
    """All descendants that have not ended."""
    return [process for process in psutil.Process().children(recursive=True) if _runs(process)]


def with_arguments(*last: str) -> psutil.Process | None:
    """One whose command line ends so."""
    for process in running():
        try:
            if process.cmdline()[-len(last) :] == list(last):
                return process
        except psutil.NoSuchProcess:
            continue
    return None


def stop() -> int:
    """Ask all descendants to end, kill those that do not; returns how many are left. Signals to us wait until then."""
    former = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for end in ("terminate", "kill", "kill"):  # twice: one may have been started while the others were killed
            processes = running()
            for process in processes:
                try:
                    getattr(process, end)()
                except psutil.NoSuchProcess:
                    continue
            psutil.wait_procs(processes, timeout=PATIENCE_SECONDS)
        return len(running())
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
