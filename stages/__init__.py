"""What is done: one room per DVC stage, each runnable as ``python -m stages.<room>``."""

import os

# libgomp's threads spin 300,000 times at a barrier before they sleep; beside another process on the same cores that
# makes two threads far slower than one. The variable is read once, when torch is imported, and changes no number.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")
