"""What may be shown on a terminal: names and records come from files of others."""


def printable(text: str) -> str:
    """Return text that cannot steer a terminal: what is no printable character is spelled out.

    >>> printable("shop/web"), printable("a\\x1b[31m")
    ('shop/web', 'a\\\\x1b[31m')
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
