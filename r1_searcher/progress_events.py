"""Progress as events, for whoever draws it: `make train` on a terminal draws the progress of all its stages' processes.

The drawing process listens at a Unix datagram socket and names it in the environment (``VARIABLE``), which the stages
inherit. An event is one JSON object. Sending never waits: an event that cannot be taken at once is dropped, since the
next one says the same more recently.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from typing import Any

VARIABLE = "R1_SEARCHER_PROGRESS"


def tell(event: Mapping[str, Any], *, address: str | None = None) -> bool:
    """Send an event; return whether somebody listens. ``address``: default from the environment.

    False as well on a machine that cannot reach the socket: the caller then prints lines.
    """
    address = os.environ.get(VARIABLE) if address is None else address
    if not address:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        try:
            sender.sendto(json.dumps(event).encode(), address)
        except BlockingIOError:  # the reader is behind
            return True
        except OSError:  # nobody listens there (any more)
            return False
    return True
