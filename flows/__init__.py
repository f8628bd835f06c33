"""When and where stages run: Prefect flows. No maths and no Parquet reading here; that belongs to the stages.

Prefect reads its settings when it is imported, so they are set here, before any flow imports it; variables that are
already set win. Nothing goes to the network.
"""

import logging
import os
from pathlib import Path

# torch's threads sleep early while they wait for each other (stages/__init__.py); workers and stages inherit it.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("PREFECT_HOME", str(ROOT / ".prefect"))  # the database of runs, beside the project
# Prefect does not place these two below its home: results of failed flows, and the server's memo store.
os.environ.setdefault("PREFECT_RESULTS_LOCAL_STORAGE_PATH", os.path.join(os.environ["PREFECT_HOME"], "storage"))
os.environ.setdefault("PREFECT_SERVER_MEMO_STORE_PATH", os.path.join(os.environ["PREFECT_HOME"], "memo_store.toml"))
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
# The loop prints its own lines, and an error is shown once, by the command that ends because of it; Prefect's lines go
# to its server, for the run's page.
os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
# While the server is away, each log line and event that Prefect cannot send would print a block in the terminal; the
# server's watcher prints one line instead (flows/server.py, flows/ui.py).
logging.raiseExceptions = False
os.environ.setdefault("PREFECT_LOGGING_HANDLERS_DEBUG_LEVEL", "CRITICAL")  # the handler of Prefect's own services
