"""send(): one message over a connection of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .connection import DEFAULT_TIMEOUT
from .smtp import SMTP, attach

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Iterable, Sequence
    from email.message import EmailMessage, Message

    from .smtp import Sent
    from .typing import SMTPTokenGenerator, SocketPathType


async def send(
    message: EmailMessage | Message | str | bytes,
    /,
    *,
    sender: str | None = None,
    recipients: str | Sequence[str] | None = None,
    mail_options: Iterable[str] | None = None,
    rcpt_options: Iterable[str] | None = None,
    hostname: str | None = "localhost",
    port: int | None = None,
    username: str | bytes | None = None,
    password: str | bytes | None = None,
    oauth_token_generator: SMTPTokenGenerator | None = None,
    local_hostname: str | None = None,
    source_address: tuple[str, int] | None = None,
    timeout: float | None = DEFAULT_TIMEOUT,
    use_tls: bool = False,
    start_tls: bool | None = None,
    validate_certs: bool = True,
    client_cert: str | None = None,
    client_key: str | None = None,
    tls_context: ssl.SSLContext | None = None,
    cert_bundle: str | None = None,
    socket_path: SocketPathType | None = None,
    sock: socket.socket | None = None,
) -> Sent:
    """Connect, send a message, and close the connection. Return the recipients that were refused,
    each with the reply, and the text of the reply to the message.

    message: an email.message.Message, whose headers name sender and recipients unless they are
    given; or a str or bytes, with which both have to be given. mail_options, rcpt_options: ESMTP
    parameters. The other arguments are those of SMTP().

    Raises ValueError for missing arguments and for some that contradict each other, and what
    SMTP.connect() and SMTP.sendmail() raise.
    """
    check_envelope(message, sender, recipients)
    client = SMTP(
        hostname=hostname,
        port=port,
        username=username,
        password=password,
        oauth_token_generator=oauth_token_generator,
        local_hostname=local_hostname,
        source_address=source_address,
        timeout=timeout,
        use_tls=use_tls,
        start_tls=start_tls,
        validate_certs=validate_certs,
        client_cert=client_cert,
        client_key=client_key,
        tls_context=tls_context,
        cert_bundle=cert_bundle,
        socket_path=socket_path,
        sock=sock,
    )
    sent = None
    try:
        async with client:
            sent = await send_by(client, message, sender, recipients, mail_options, rcpt_options)
    except BaseException as error:
        if sent is not None and client.last_result is not None:
            # Cancelled while the server was told to quit: it has the message all the same.
            attach(error, client.last_result)
        raise
    return sent


def check_envelope(message: object, sender: object, recipients: object) -> None:
    """Raises ValueError if the sender or the recipients of a raw message are missing."""
    if isinstance(message, (str, bytes)):
        if not recipients:
            raise ValueError("Recipients must be provided with raw messages.")
        if not sender:
            raise ValueError("Sender must be provided with raw messages.")


async def send_by(
    client: SMTP,
    message: EmailMessage | Message | str | bytes,
    sender: str | None,
    recipients: str | Sequence[str] | None,
    mail_options: Iterable[str] | None,
    rcpt_options: Iterable[str] | None,
) -> Sent:
    """Send a message, raw or not, by a client that is connected."""
    if isinstance(message, (str, bytes)):
        assert sender is not None
        assert recipients is not None
        return await client.sendmail(
            sender, recipients, message, mail_options=mail_options, rcpt_options=rcpt_options
        )
    return await client.send_message(
        message,
        sender=sender,
        recipients=recipients,
        mail_options=mail_options,
        rcpt_options=rcpt_options,
    )
