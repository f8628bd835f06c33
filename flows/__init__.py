"""When and where: Prefect flows. No maths and no Parquet reading here; that is the rooms' work.

Prefect reads its settings when it is imported, so what this project wants of it is said here, before
any flow imports it; a variable that is already set wins. Nothing of it goes to the network.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("PREFECT_HOME", str(ROOT / ".prefect"))  # the runs' database, beside the project
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")  # the loop prints its own lines
