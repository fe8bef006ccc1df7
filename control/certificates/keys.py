"""Private keys: made on P-256, read in any kind that counts, and never shown."""

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from control.certificates.certificate import MAX_DER, PrivateKey, PublicKey, known_key


class BadKey(ValueError):
    """A text that is no private key that counts; the message says why, and nothing of the text."""


def new() -> PrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def read(pem: bytes) -> PrivateKey:
    """Read the private key of a text, which may have certificates too; raises BadKey."""
    if len(pem) > 16 * MAX_DER:
        raise BadKey(f"there are more than {16 * MAX_DER} bytes")
    try:
        key = serialization.load_pem_private_key(_block(pem), None)
    except BadKey:
        raise
    except Exception as error:  # of several kinds, and its words may come from the text
        raise BadKey("there is no private key that can be read without a password") from error
    if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) and known_key(
        key.public_key()
    ):
        return key
    raise BadKey("the key is none of P-256, P-384, Ed25519, RSA with 2048 to 8192 bits")


def _block(pem: bytes) -> bytes:
    """Return the lines of the key; others read the first one, or the last."""
    begin = pem.find(b"-----BEGIN ")
    while begin >= 0:
        line = pem[begin : begin + 64].split(b"\n", 1)[0].rstrip()
        if line.endswith(b"PRIVATE KEY-----"):
            mark = line.replace(b"BEGIN", b"END")
            end = pem.find(mark, begin)
            if end < 0 or b"PRIVATE KEY-----" in pem[end + len(mark) :]:
                raise BadKey("there is not one private key")
            return pem[begin : end + len(mark)] + b"\n"
        begin = pem.find(b"-----BEGIN ", begin + 1)
    raise BadKey("there is no private key")


def to_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def hash_for(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    """Return the hash that signatures of this key are made with."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    return hashes.SHA384() if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size > 256 else hashes.SHA256()


def is_of(key: PrivateKey, public: PublicKey | None) -> bool:
    """Tell whether a certificate's key is the other half of this one."""
    return public is not None and are_same(key.public_key(), public)


def are_same(one: PublicKey, other: PublicKey) -> bool:
    """Tell whether two keys are one; cryptography before 40 compares them as objects."""
    return _info(one) == _info(other)


def _info(key: PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
