"""What reads a radiograph: decoding, the cascade, heatmaps, reports, the store.

torch's threads wait asleep for their next piece of work. By default (libgomp) they spin, and where
anything else runs on the processors, another session or a training, a thread that has none spins
while the others hold it: a pass took many times as long beside two busy processes. Alone it is as
fast either way. Read when torch is loaded, so it is said here, before any of it is.

Nothing is told to anybody: OpenVINO and NNCF report each use to a web analytics service unless
their package for it is missing, and Ray does unless it is told not to.
"""

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # as if not installed
