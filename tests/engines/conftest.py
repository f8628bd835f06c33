"""One thread for both engines: the models are tiny, and two threads on a busy machine wait for each other."""

from __future__ import annotations

import pytest
import torch

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with Ray mostly wait, and one worker runs them all: first, while the other one computes."""
    items.sort(key=lambda item: not item.path.name.startswith("test_ray_"))
