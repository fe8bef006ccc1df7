"""The pages that people read: README.md and docs/, taken apart for the tests that hold them to the code.

Three marks, invisible on the page: `<!-- run -->` before a block that is run, all of them in one shell;
`<!-- file: PATH -->` before the content of a file that those blocks need; `<!-- form: demo -->` or `<!-- form: run -->`
before real output, whose lines must look like those of today, figures and times apart.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = Path("README.md")
PAGES = {path.relative_to(ROOT): path.read_text() for path in (ROOT / README, *sorted(ROOT.glob("docs/*.md")))}
BLOCK = re.compile(r"(?:<!-- (run|file|form)(?:: (\S+))? -->\n)?```(\w+)\n(.*?)\n```$", re.DOTALL | re.MULTILINE)
BLOCKS = [found for text in PAGES.values() for found in BLOCK.findall(text)]
PROSES = {page: BLOCK.sub("", text) for page, text in PAGES.items()}
PROSE = "\n".join(PROSES.values())
DOCS = [page for page in PAGES if page != README]


def written_in(language: str) -> list[str]:
    """Return the blocks of a language, of all pages."""
    return [text for _, _, given, text in BLOCKS if given == language]


def marked(mark: str, argument: str = "") -> list[str]:
    """Return the blocks with a mark, of all pages in order."""
    return [text for kind, given, _, text in BLOCKS if kind == mark and given == argument]


def files() -> dict[str, str]:
    """Return the files that the blocks to run need, by path."""
    return {path: text for kind, path, _, text in BLOCKS if kind == "file"}
