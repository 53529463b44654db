"""The outcome of a check before a run's first step."""

import logging
from dataclasses import asdict, dataclass
from typing import Any

from contrastill.errors import UserError

__all__ = ["FEW_UNKNOWN", "Check", "Report"]

FEW_UNKNOWN = 0.05
"""Share of unknown tokens above which there is a warning."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Check:
    """One check: its name, whether it passed, and the observation (with what to do)."""

    name: str
    ok: bool
    seen: str
    fatal: bool = True
    forceable: bool = True  # False: training could only crash


@dataclass(frozen=True)
class Report:
    checks: list[Check]

    @property
    def failed(self) -> bool:
        return any(check.fatal and not check.ok for check in self.checks)

    def seen(self, name: str) -> str:
        """The observation of the check with this name; empty without one."""
        return next((check.seen for check in self.checks if check.name == name), "")

    @property
    def doubts(self) -> list[str]:
        """The observation of each failed check, with what to do."""
        return [check.seen for check in self.checks if not check.ok]

    def as_dict(self) -> list[dict[str, Any]]:
        return [asdict(check) for check in self.checks]

    def raise_if_failed(self, force: bool = False) -> None:
        failed = [check for check in self.checks if not check.ok]
        fatal = [check for check in failed if check.fatal and not (force and check.forceable)]
        for check in failed:
            if check not in fatal:
                logger.warning("%s? %s", check.name, check.seen)
        if fatal:
            lines = "\n".join(f"  {check.name}: {check.seen}" for check in fatal)
            forced = " (--force starts anyway)" if all(check.forceable for check in fatal) else ""
            raise UserError(f"not started, because a check failed{forced}:\n{lines}")
