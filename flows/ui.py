"""The Prefect server with its page, on the project's own database: every run so far, and those to come.

    python -m flows.ui          http://127.0.0.1:4200 until Ctrl-C

Flows find it through PREFECT_API_URL=http://127.0.0.1:4200/api; without that they use their own small
server on the same database, and their runs are on the page too.
"""

from __future__ import annotations

import os
import subprocess
import sys

import flows
from stages.contract.errors import PipelineError, command


@command
def main() -> None:
    """Run the server until it is stopped."""
    os.makedirs(os.environ["PREFECT_HOME"], exist_ok=True)
    done = subprocess.run([sys.executable, "-m", "prefect", "server", "start"], cwd=flows.ROOT, check=False)
    if done.returncode not in (0, -2, 130):
        raise PipelineError(f"the Prefect server ended with status {done.returncode}", fix="see the lines above")


if __name__ == "__main__":
    raise SystemExit(main())
