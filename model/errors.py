"""Every error of Penchant, named after what the caller must do."""


class PenchantError(Exception):
    """Base of all errors raised on purpose; its text is one line that says what to do."""


class BadEvent(PenchantError):
    """Can never be handled, however often it is read: dead-letter it, go on."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        """One of a small fixed set: safe as a metric label."""
        self.detail = detail


class BadBundle(PenchantError):
    """A model bundle that cannot be trusted: keep the old one."""


class DependencyAway(PenchantError):
    """Kafka or a registry does not answer: pause, stay alive, be unready."""


class Fatal(PenchantError):
    """Cannot go on; exit non-zero. A restart is safe once the text's advice was followed."""
