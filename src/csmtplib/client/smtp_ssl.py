"""SMTP_SSL: SMTP inside TLS from the start."""

from __future__ import annotations

from .. import fastpath
from ..drive import tls
from .connection import DEFAULT_TIMEOUT
from .session import tls_context
from .smtp import SMTP

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    import ssl

    from .connection import SourceAddress
    from .session import StrOrBytesPath

SMTP_SSL_PORT = 465


@fastpath.original
class SMTP_SSL(SMTP):
    """SMTP over TLS from the first byte on (RFC 8314 section 3.3), as `smtplib.SMTP_SSL`.

    Takes what SMTP takes; keyfile, certfile and context as in SMTP.starttls().
    """

    default_port: int = SMTP_SSL_PORT

    def __init__(
        self,
        host: str = "",
        port: int = 0,
        local_hostname: str | None = None,
        keyfile: StrOrBytesPath | None = None,
        certfile: StrOrBytesPath | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        source_address: SourceAddress | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.keyfile = keyfile
        self.certfile = certfile
        self.context = tls_context(keyfile, certfile, context)
        super().__init__(host, port, local_hostname, timeout, source_address)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        if self.debuglevel > 0:
            self._print_debug("connect:", (host, port))
        sock = super()._get_socket(host, port, timeout)
        try:
            wrapped: socket.socket = tls.wrap(self.context, sock, self._host)
            return wrapped
        except BaseException:
            sock.close()
            raise
