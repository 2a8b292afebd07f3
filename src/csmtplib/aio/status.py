"""SMTPStatus, where aiosmtplib has it, too."""

from .response import SMTPStatus

__all__ = ("SMTPStatus",)
