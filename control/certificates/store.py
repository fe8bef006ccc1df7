"""The control side's directory: roots that were made here, and the bundle that says which of them count.

    root-1.pem, root-2.pem ...   key and certificate in one file, mode 0600: made once, never written over or removed
    bundle.json                  which of them are trusted, which signs, and when that changes

The number of a root is that of the rotation that brought it. When two make the same one at once, one file comes of it
and both use that. What is in the way is told of, with its path, and left as it is.
"""

import os
from pathlib import Path

from control.certificates import authority, certificate, files, roots
from control.certificates.authority import LEAF_LIFETIME, Authority
from control.certificates.certificate import Certificate
from control.certificates.files import BadFile
from control.certificates.roots import TrustBundle

BUNDLE = "bundle.json"
MAX_ROOTS = 1000


class Store:
    """All methods raise BadFile; `begin` and `finish` NotNow too."""

    def __init__(self, directory: Path, trust_domain: str) -> None:
        self._directory, self._trust_domain = directory, trust_domain
        self._bundle = directory / BUNDLE

    def bundle(self, now: float) -> TrustBundle:
        """Return the bundle in force; where there is nothing yet, make the first root and trust it."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise BadFile(self._directory, error.strerror or str(error)) from error
        # Not `exists`: a link that leads nowhere is in the way too.
        if not os.path.lexists(self._bundle):
            if os.path.lexists(self._path(2)):  # it was there: to begin anew would trust a root that was taken away
                raise BadFile(self._bundle, "it is missing, and there is more than one root")
            first = self._root(1, now).root
            files.create(self._bundle, TrustBundle(self._trust_domain, first).to_json().encode())
        try:
            found = roots.from_json(files.read(self._bundle))
        except roots.BadBundle as error:
            raise BadFile(self._bundle, str(error)) from error
        if found.trust_domain != self._trust_domain:
            raise BadFile(self._bundle, f"it is of the trust domain {found.trust_domain}, not {self._trust_domain}")
        return found

    def authority(self, now: float) -> Authority:
        """Return who signs now."""
        signer = self.bundle(now).signer(now)
        return self._load(self._path(self._number(signer)), now)

    def begin(self, now: float, leaf_lifetime: float = LEAF_LIFETIME) -> TrustBundle:
        """Make another root, and begin to put it in the place of the one in force."""
        bundle = self.bundle(now)
        if bundle.new is not None:
            raise roots.NotNow("another root is on its way in; finish that first")
        number = self._number(bundle.current) + 1
        new = self._root(number, now).root
        try:
            begun = bundle.begin(new, now, leaf_lifetime)
        except roots.BadBundle as error:
            raise BadFile(self._path(number), str(error)) from error
        files.replace(self._bundle, begun.to_json().encode())
        return begun

    def finish(self, now: float) -> TrustBundle:
        """Take the old root away from those that are trusted. Its file stays."""
        finished = self.bundle(now).finish(now)
        files.replace(self._bundle, finished.to_json().encode())
        return finished

    def _path(self, number: int) -> Path:
        return self._directory / f"root-{number}.pem"

    def _root(self, number: int, now: float) -> Authority:
        """Return the root of that number, made now if there is none."""
        path = self._path(number)
        if not os.path.lexists(path):
            files.create(path, authority.new_root(self._trust_domain, now).to_pem())
        return self._load(path, now)

    def _load(self, path: Path, now: float) -> Authority:
        text = files.read(path)
        try:
            return authority.given(text, text, text, self._trust_domain, now)
        except authority.BadAuthority as error:
            raise BadFile(path, str(error)) from error

    def _number(self, root: Certificate) -> int:
        """Return which of the files a root of the bundle is in."""
        for number in range(1, MAX_ROOTS):
            path = self._path(number)
            if not os.path.lexists(path):
                break
            try:
                if root in certificate.read_pem(files.read(path)):
                    return number
            except certificate.Unreadable as error:
                raise BadFile(path, str(error)) from error
        raise BadFile(self._bundle, "no file beside it has the key of a root that it names")
