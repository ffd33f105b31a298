"""The source of a recipe: its paper, the equation, the conventions, and how implementations depart from it."""

from __future__ import annotations

import dataclasses
import re
import unicodedata

__all__ = ["Reference"]


_ACCENTS = {"'": "\u0301", "`": "\u0300", '"': "\u0308", "^": "\u0302", "~": "\u0303", "c": "\u0327", "u": "\u0306"}
"""Accents of LaTeX, each with its combining character."""

_ACCENTED = re.compile(r"""\{?\\(['`"^~]|[cu](?=\{))\{?([A-Za-z])\}?\}?""")


def _plain(name: str) -> str:
    r"""A name in BibTeX's form as it is printed.

    >>> _plain(r"{\c{C}}a{\u{g}}atan"), _plain(r"Kiant{\'e}"), _plain("D'Oosterlinck")
    ('Çağatan', 'Kianté', "D'Oosterlinck")
    """
    return unicodedata.normalize("NFC", _ACCENTED.sub(lambda found: found[2] + _ACCENTS[found[1]], name))


@dataclasses.dataclass(frozen=True)
class Reference:
    """The publication of an objective.

    Args:
        title: of the paper.
        authors: in BibTeX's form, first author first, with "and others" for the rest.
        year: of the first version.
        arxiv: identifier, or None where there is none.
        equation: where in the paper.
        loss: the loss as published, in plain text.
        conventions: choices on which trainers disagree.
        departures: pairs of a library and how it departs from the paper.
        venue: where it appeared, if not on arXiv.

    >>> from geomalign.recipes import PUBLICATIONS
    >>> PUBLICATIONS["dpo"].source, PUBLICATIONS["dpo"].url
    ('Rafailov 2023', 'https://arxiv.org/abs/2305.18290')
    """

    title: str
    authors: str
    year: int
    arxiv: str | None
    equation: str
    loss: str
    conventions: tuple[str, ...] = ()
    departures: tuple[tuple[str, str], ...] = ()
    venue: str = ""

    @property
    def key(self) -> str:
        """The BibTeX key, of lower-case letters and digits alone: first author's surname, year, first word of the title
        that is not an article.

        >>> from geomalign.recipes import PUBLICATIONS
        >>> PUBLICATIONS["cfpo"].key, PUBLICATIONS["apo_zero"].key
        ('cagatan2026clippingfree', 'doosterlinck2024anchored')
        """
        words = ["".join(c for c in word if c.isalnum()) for word in self.title.lower().split()]
        word = next(word for word in words if word and word not in ("a", "an", "the", "on"))
        # BibTeX and biber read a brace, an apostrophe or a backslash as the end of the key.
        letters = unicodedata.normalize("NFKD", self._surname + str(self.year) + word).lower()
        return re.sub("[^a-z0-9]", "", letters)

    @property
    def _surname(self) -> str:
        return _plain(self.authors.split(" and ")[0].split(",")[0])

    @property
    def source(self) -> str:
        """First author and year."""
        return f"{self._surname} {self.year}"

    @property
    def url(self) -> str:
        """The address of the abstract; empty without an arXiv identifier."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else ""

    def bibtex(self) -> str:
        """The BibTeX entry.

        >>> from geomalign.recipes import PUBLICATIONS
        >>> print(PUBLICATIONS["dpo"].bibtex().splitlines()[0])
        @misc{rafailov2023direct,
        """
        title = re.sub(r"(?<!\\)([#$%&_])", r"\\\1", self.title)
        fields = {"title": f"{{{title}}}", "author": self.authors, "year": str(self.year)}
        if self.venue:
            fields["url" if self.venue.startswith("https://") else "howpublished"] = self.venue
        if self.arxiv:
            fields |= {"eprint": self.arxiv, "archivePrefix": "arXiv"}
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        return f"@misc{{{self.key},\n{body}\n}}"
