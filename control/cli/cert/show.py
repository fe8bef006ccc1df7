"""`sockmesh cert list` and `sockmesh cert inspect`."""

import sys
import time
from pathlib import Path

import click

from control.agent import kept
from control.certificates import certificate, files
from control.certificates.certificate import Certificate
from control.cli.paths import PATH
from control.cli.place import output_option, run_dir_option
from control.cli.show import Column, show, show_one
from control.inspect import certificates
from control.inspect.certificates import Detail, Row
from loader.errors import MeshError

_COLUMNS: tuple[Column[Row], ...] = (
    Column("SPIFFE ID", lambda row: row.id),
    Column("NOT BEFORE", lambda row: row.not_before),
    Column("NOT AFTER", lambda row: row.not_after),
    Column("RENEWED AT", lambda row: row.renewed_at),
    Column("DUE AT", lambda row: row.due_at),
    Column("ISSUER", lambda row: row.issuer),
    Column("FINGERPRINT", lambda row: row.fingerprint[:16]),
    Column("PROBLEM", lambda row: row.problem, style=lambda _: "red"),
)


@click.command("list")
@run_dir_option
@output_option
def list_(run_dir: Path, output: str) -> None:
    """Show the certificates of this node's service accounts: until when, by whom, and what is wrong."""
    found = kept.read(_directory(run_dir))
    _tell_of_broken(found)
    if found.plan.problem:
        click.echo(f"sockmesh: certificates are not renewed: {found.plan.problem}", err=True)
    empty = f"no certificates are kept in {run_dir / kept.DIRECTORY} (`sockmesh agent --mtls` makes them)"
    show(certificates.rows(found, time.time()), _COLUMNS, output, empty)


@click.command()
@click.argument("which", metavar="ID|NAMESPACE/SERVICE_ACCOUNT|FILE")
@click.option("--roots", type=PATH, metavar="FILE", help="Check against these roots; else those that the agent trusts.")
@run_dir_option
@output_option
def inspect(which: str, roots: Path | None, run_dir: Path, output: str) -> None:
    """Show all of one certificate: that of a service account (its SPIFFE id, or
    NAMESPACE/SERVICE_ACCOUNT: that of pods that name none is NAMESPACE/default), or of a file.

    The exit status is 1 if it is not trusted: it leads to none of the roots, has ended, or is no workload's.
    """
    found = kept.read(_directory(run_dir))
    _tell_of_broken(found)
    chain = _chain(which, found, run_dir)
    known = _read(roots) if roots else found.roots
    seen = certificates.detail(chain, known, found.plan.trust_domain, time.time())
    show_one(seen, _facts(seen), output)
    if not seen.trusted:
        sys.exit(1)


def _directory(run_dir: Path) -> Path:
    """Return where certificates are kept; raises PermissionError to who may not look."""
    directory = run_dir / kept.DIRECTORY
    if directory.exists():
        next(directory.iterdir(), None)
    return directory


def _tell_of_broken(found: kept.Found) -> None:
    for error in found.broken:
        click.echo(f"sockmesh: {error}", err=True)


def _chain(which: str, found: kept.Found, run_dir: Path) -> tuple[Certificate, ...]:
    for id, leaf in found.leaves.items():
        if which in (str(id), f"{id.namespace}/{id.service_account}"):
            return leaf.credential.chain
    if not which.startswith("spiffe://") and Path(which).exists():
        return _read(Path(which))
    known = ", ".join(f"{id.namespace}/{id.service_account}" for id in sorted(found.leaves)[:10]) or "none"
    raise MeshError(f"{which}: no certificate of that id in {run_dir / kept.DIRECTORY} (there: {known}), and no file")


def _read(path: Path) -> tuple[Certificate, ...]:
    try:
        return certificate.read_pem(files.read(path, is_private=False))
    except certificate.Unreadable as error:
        raise files.BadFile(path, str(error)) from error


def _facts(seen: Detail) -> dict[str, str]:
    facts = {
        "SPIFFE id": seen.id,
        "serial": seen.serial,
        "not before": seen.not_before,
        "not after": f"{seen.not_after} ({seen.left})",
        "issuer": seen.issuer,
        "key": seen.key,
        "SHA-256": seen.fingerprint,
    }
    for number, link in enumerate(seen.chain, 1):
        facts[f"above it, {number}"] = f"{link.subject}, until {link.not_after}"
    facts["trusted"] = f"yes, by {seen.root}" if seen.trusted else f"NO: {seen.why}"
    return facts
