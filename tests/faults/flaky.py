"""A regions stage that goes wrong in chosen units, a chosen number of times. Markers in its output folder count the times."""

import os
import signal
import time

from build.stages.regions import RegionsStage


class FlakyRegions(RegionsStage):
    """What goes wrong, and how often, is read from the files `<unit>.<fault>` in the output folder: a number of times left."""

    def compute(self, unit, advance):
        for fault in ("die", "hang", "wait", "memory", "error"):
            path = self.plan.work / f"{unit.file}.{fault}"
            if path.exists() and (left := int(path.read_text())) > 0:
                path.write_text(str(left - 1))
                _go_wrong(fault, self.plan.work)
        return super().compute(unit, advance)


def _go_wrong(fault, work):
    if fault == "wait":  # until there is a file `go`; then do the unit
        (work / f"{os.getpid()}.busy").touch()
        while not (work / "go").exists():
            time.sleep(0.05)
        return
    if fault == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "hang":
        time.sleep(1000)
    if fault == "memory":
        raise MemoryError("no memory is left")
    raise ValueError("something is wrong with this unit")
