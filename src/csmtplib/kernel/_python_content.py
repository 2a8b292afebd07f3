"""The content of a message in pure Python, encoded as it is sent."""

from __future__ import annotations

from . import _python

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .transaction import BytesLike


class Content:
    """The bytes of one message, as they are sent."""

    __slots__ = (
        "byte_count",
        "chunks",
        "has_8bit",
        "has_nul",
        "longest_line",
        "size",
        "terminator",
    )

    def __init__(
        self, buffers: bytes | Iterable[BytesLike], dots: bool, end: bytes | None = None, /
    ) -> None:
        self.chunks: list[bytes] = []
        self.size = 0
        self.longest_line = 0
        self.has_nul = self.has_8bit = False
        pieces = [buffers] if isinstance(buffers, bytes) else buffers
        whole = filter(None, map(_python._as_bytes, pieces))
        if end is None:
            end = self._encode(whole, dots)
        else:
            self.chunks.extend(whole)
        text = sum(map(len, self.chunks))
        self.byte_count = text + len(end)
        # The server may have the whole message from here on: the first byte of what may end it, or
        # the last byte of a chunk whose size BDAT has announced.
        self.terminator = text if dots else self.byte_count - 1
        if end:
            self.chunks.append(end)

    def _encode(self, buffers: Iterable[bytes], dots: bool) -> bytes:
        encoder = _python.BodyEncoder(dots)
        open_line = gained = 0
        at_line_start = True
        for chunk in buffers:
            self.has_nul = self.has_nul or b"\0" in chunk
            self.has_8bit = self.has_8bit or not chunk.isascii()
            lines = list(map(len, chunk.replace(b"\r", b"\n").split(b"\n")))
            lines[0] += open_line
            open_line = lines[-1]
            self.longest_line = max(self.longest_line, *lines)
            encoded = encoder.encode(chunk)
            if dots:
                gained += encoded.count(b"\n..") + (at_line_start and encoded.startswith(b".."))
                at_line_start = encoded.endswith(b"\n")
            self.size += len(encoded)
            self.chunks.append(encoded)
        end = encoder.finish()
        # Neither the dots that were added count, nor the terminator (RFC 1870 section 5).
        self.size += len(end) - gained - (len(b".\r\n") if dots else 0)
        return end
