"""The report of a run: what was sent and done, what is wrong, how long others took over."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from consumer import kafka
from consumer.settings import Settings
from tests.torture.checker import Account, Verdict
from tests.torture.faults import Diary
from tests.torture.takeovers import summary, takeovers


def report_of(
    account: Account, found: Verdict, diary: Diary, logs: Mapping[int, Path], settings: Settings
) -> dict[str, Any]:
    """Return the report; the caller adds what it has measured itself."""
    session = settings.session_timeout_seconds or kafka.CLASSIC_SESSION_SECONDS
    unanswered = sum(bool(killed.waiting) for killed in diary.killed)
    return {
        "events": len(account.sent),
        "faults": dict(sorted(Counter(done.kind for done in diary.done).items())),
        "faults_total": len(diary.done),
        **{kind: len(lines) for kind, lines in asdict(found).items()},
        **summary(takeovers(diary, logs), unanswered, session, kafka.TRANSACTION_TIMEOUT_SECONDS),
        "group_protocol": settings.group_protocol,
        "session_timeout_s": session,
        "repeated_events": len(account.sent) - len({one.event or one[:2] for one in account.sent}),
        "dead_letters": len(account.letters),
        "lists": len(account.lists),
        "sightings": len(account.sightings),
        "calms_left_out": diary.unquiet,
        "restarted_to_drain": diary.restarted_to_drain,
        "ended_by_themselves": diary.ended,
    }
