"""When each delete of the slow store began and ended, on the clock of this machine."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Delete:
    """One delete; ``ended`` is None if it did not."""

    image: str
    began: float
    ended: float | None


class Journal:
    """What the slow store writes down."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def deletes(self) -> list[Delete]:
        """In the order in which they began; an image that was tried twice is there twice."""
        began: dict[str, float] = {}
        done: list[Delete] = []
        for line in self._lines():
            moment, what, image = line.split()
            if what == "begin":
                if image in began:
                    done.append(Delete(image, began[image], None))
                began[image] = float(moment)
            else:
                done.append(Delete(image, began.pop(image), float(moment)))
        done += [Delete(image, moment, None) for image, moment in began.items()]
        return sorted(done, key=lambda delete: delete.began)

    def begun(self) -> int:
        return sum(" begin " in line for line in self._lines())

    def ended(self) -> int:
        return sum(" end " in line for line in self._lines())

    def most_at_once(self, since: float = 0.0) -> int:
        """The largest number of deletes under way together, of those begun after ``since``."""
        changes: list[tuple[float, int]] = []
        for delete in self.deletes():
            if delete.began >= since:
                changes.append((delete.began, 1))
                if delete.ended is not None:
                    changes.append((delete.ended, -1))
        running = most = 0
        for _, change in sorted(changes):
            running += change
            most = max(most, running)
        return most

    def _lines(self) -> list[str]:
        if not self.path.exists():
            return []
        # The last line may still be in the making.
        return self.path.read_text().rpartition("\n")[0].splitlines()
