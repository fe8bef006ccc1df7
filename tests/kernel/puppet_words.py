"""What the puppet's parts share."""

import errno
import socket


def word(number: int) -> str:
    """Return the name of an errno, "ok" for none."""
    return "ok" if not number else errno.errorcode.get(number, str(number))


def family(ip: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET
