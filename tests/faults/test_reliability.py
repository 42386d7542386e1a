"""What docs/reliability.md says is what the drill does."""

import subprocess
import sys


def test_the_page_is_up_to_date(root):
    check = [sys.executable, "tools/write_reliability.py", "--check"]
    told = subprocess.run(check, cwd=root, capture_output=True, text=True, timeout=120)
    assert told.returncode == 0, told.stdout + told.stderr + "run tools/write_reliability.py"
