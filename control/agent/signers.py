"""Who signs this node's certificates, as the operator said: a directory of roots, or a given intermediate."""

import os
from pathlib import Path
from typing import Protocol

from control.agent.options import Options
from control.certificates import authority, certificate, files, store
from control.certificates.authority import Authority, BadAuthority
from control.certificates.certificate import Certificate


class Signer(Protocol):
    """Both are read anew each time, and raise MeshError, which says the file and what is wrong with it."""

    def roots(self, now: float, is_known: bool) -> tuple[Certificate, ...]:
        """Return all roots to trust. `is_known`: there were some before, so that they cannot be missing now."""

    def authority(self, now: float) -> Authority: ...


class Directory:
    """Of roots, that all nodes share: store.Store."""

    def __init__(self, directory: Path, trust_domain: str) -> None:
        self._directory, self._store = directory, store.Store(directory, trust_domain)

    def roots(self, now: float, is_known: bool) -> tuple[Certificate, ...]:
        bundle = self._directory / store.BUNDLE
        if is_known and not os.path.lexists(bundle):
            # A file system that is not mounted looks like this, and a root made now would split the mesh in two.
            raise files.BadFile(
                bundle,
                "it is gone, though this node knows its roots: bring it back (`sockmesh uninstall` forgets them)",
            )
        return self._store.bundle(now).roots

    def authority(self, now: float) -> Authority:
        return self._store.authority(now)


class Given:
    """A certificate that signs, with its key, and the roots to trust."""

    def __init__(self, cert: Path, key: Path, root: Path, trust_domain: str) -> None:
        self._cert, self._key, self._root, self._trust_domain = cert, key, root, trust_domain

    def roots(self, now: float, is_known: bool) -> tuple[Certificate, ...]:
        try:
            return certificate.read_pem(files.read(self._root, is_private=False))
        except certificate.Unreadable as error:
            raise files.BadFile(self._root, str(error)) from error

    def authority(self, now: float) -> Authority:
        key = files.read(self._key)
        cert, root = (files.read(path, is_private=False) for path in (self._cert, self._root))
        try:
            return authority.given(key, cert, root, self._trust_domain, now)
        except BadAuthority as error:
            raise files.BadFile(self._cert, str(error)) from error


def of(opts: Options) -> Signer:
    """Return who signs, by checked options."""
    if opts.ca_dir:
        return Directory(opts.ca_dir, opts.trust_domain)
    assert opts.ca_cert and opts.ca_key and opts.ca_root
    return Given(opts.ca_cert, opts.ca_key, opts.ca_root, opts.trust_domain)
