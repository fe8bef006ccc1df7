"""What ends a stream or a connection between nodes."""


class BadFrame(ValueError):
    """What no proxy of this version says: the connection is to be closed."""


class Ended(ConnectionResetError):
    """A stream that neither pod has ended: the message says why it is over, for the record."""
