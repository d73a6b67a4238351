"""When this process first imported limner."""

from __future__ import annotations

import time

#: A budget in minutes on the command line counts from here: importing torch is part of the wait.
BEGAN = time.monotonic()
