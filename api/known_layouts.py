"""Datasets as they were found before, believed for as long as none of their folders has changed.

To count the files of a large dataset takes longer than all else that a submission does, and the jobs of a
sweep have one dataset.
"""

import threading
import time
from collections import OrderedDict
from pathlib import Path

from api.dataset_layout import Layout, below_data_root, look_in, stamp_of

MAX_KNOWN = 200
#: What changed just before it was looked at may change again without getting another time.
SETTLED_NS = 2_000_000_000


class KnownLayouts:
    """By their real folders, the latest used. Thread-safe."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._known: OrderedDict[Path, Layout] = OrderedDict()

    def look_at(self, data_root: Path, relative: str, *, uploads: Path) -> Layout:
        """Raises as ``dataset_layout.look_at``; what is wrong is looked at anew each time."""
        folder = below_data_root(data_root, relative, "dataset.path", uploads=uploads)
        with self._changing:
            known = self._known.get(folder)
        if known is not None and all(stamp_of(path) == stamp for path, stamp in known.folders.items()):
            return known
        began_ns = time.time_ns()
        found = look_in(folder, data_root)
        is_settled = all(
            stamp is not None and stamp.changed_ns < began_ns - SETTLED_NS for stamp in found.folders.values()
        )
        with self._changing:
            self._known.pop(folder, None)
            if is_settled:
                self._known[folder] = found
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        return found
