"""Processes that are killed at an event that is named, and folders that are to be had again as they were."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


class Killer:
    def __init__(self) -> None:
        script = Path(__file__).with_name("killed.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, root: Path, event: int, name: str) -> tuple[int, list[str]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{root} {event} {name}\n")
        self.process.stdin.flush()
        code, _, events = self.process.stdout.readline().rstrip("\n").partition(" ")
        return int(code), events.split("|")


class Template:
    """A folder as it is when this is made, to be had again and again in the same place: runs know their files by their paths and stamps."""

    def __init__(self, root: Path) -> None:
        self.root, self.kept = root, root.with_name(f"{root.name}.kept")
        shutil.copytree(root, self.kept)

    def again(self) -> Path:
        shutil.rmtree(self.root)
        return Path(shutil.copytree(self.kept, self.root))
