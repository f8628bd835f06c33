"""When and where: Prefect flows. No maths and no Parquet reading here; that is the rooms' work.

Prefect reads its settings when it is imported, so what this project wants of it is said here, before
any flow imports it; a variable that is already set wins. Nothing of it goes to the network.
"""

import logging
import os
from pathlib import Path

# torch's threads sleep early where they wait for one another (stages/__init__.py); workers and stages inherit it.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("PREFECT_HOME", str(ROOT / ".prefect"))  # the runs' database, beside the project
# Prefect does not look for these two below its home: results of flows that fail, and what its server remembers.
os.environ.setdefault("PREFECT_RESULTS_LOCAL_STORAGE_PATH", os.path.join(os.environ["PREFECT_HOME"], "storage"))
os.environ.setdefault("PREFECT_SERVER_MEMO_STORE_PATH", os.path.join(os.environ["PREFECT_HOME"], "memo_store.toml"))
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
# The loop prints its own lines, and an error is shown once, by the command that ends because of it;
# Prefect's lines go to its server, where the run's page shows them.
os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
# While its server is away, each log line and each event that Prefect cannot send there would be a block in the middle
# of the terminal; whoever looks after the server says it in one line (flows/server.py, flows/ui.py).
logging.raiseExceptions = False
os.environ.setdefault("PREFECT_LOGGING_HANDLERS_DEBUG_LEVEL", "CRITICAL")  # the handler of Prefect's own services
