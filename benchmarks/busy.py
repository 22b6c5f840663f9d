"""A scorer that takes as long as it is told, as an installed package: one that cannot keep up, for measurements."""

from pathlib import Path

_MODULE = '''
import time


class Busy:
    """Computes for {seconds} s of processor time a text."""

    name, version, threshold = "busy", "1", 0.5

    def score(self, texts):
        for _ in texts:
            end = time.process_time() + {seconds}
            while time.process_time() < end:
                pass
        return [0.0] * len(texts)
'''


def install(folder: Path, seconds: float) -> None:
    """Make the package in a folder, which has to be on the path of who loads the scorer `busy`."""
    info = folder / "busy-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: busy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[excise.scorers]\nbusy = busy_scorer:Busy\n")
    (folder / "busy_scorer.py").write_text(_MODULE.format(seconds=seconds))
