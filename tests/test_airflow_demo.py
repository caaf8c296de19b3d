"""What benchmarks.airflow_demo does to its processes; Airflow itself is not here."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A child in a session of its own starts a grandchild that ignores SIGTERM, says its number, and ends.
ORPHANING = """
import subprocess, sys
from benchmarks import descendants
descendants.adopt()
stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('here', flush=True); time.sleep(600)"
child = f'''
import subprocess, sys
pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
grandchild = subprocess.Popen([sys.executable, "-c", {stubborn!r}], start_new_session=True, **pipes)
grandchild.stdout.readline()
print(grandchild.pid)
'''
said = subprocess.run([sys.executable, "-c", child], stdout=subprocess.PIPE, start_new_session=True, text=True).stdout
descendants.PATIENCE_SECONDS = 0.5
found = [process.pid for process in descendants.running()], descendants.with_arguments("-c", stubborn).pid
print(int(said), *found, descendants.with_arguments("-c", "no such"), descendants.stop(), descendants.running())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl")
def test_an_orphan_in_another_session_that_ignores_sigterm_is_stopped():
    done = subprocess.run([sys.executable, "-c", ORPHANING], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    orphan = int(done.stdout.split()[0])
    assert done.stdout.split(maxsplit=1)[1].strip() == f"[{orphan}] {orphan} None 0 []"
    assert not Path(f"/proc/{orphan}").exists()
