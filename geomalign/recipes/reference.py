"""The source of a recipe: its paper, the equation, the conventions, and how implementations depart from it."""

from __future__ import annotations

import dataclasses

__all__ = ["Reference"]


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
        """The BibTeX key: first author's surname, year, first word of the title that is not an article."""
        surname = self.authors.split(" and ")[0].split(",")[0].lower().replace(" ", "").replace("-", "")
        words = ["".join(c for c in word if c.isalnum()) for word in self.title.lower().split()]
        return surname + str(self.year) + next(word for word in words if word and word not in ("a", "an", "the", "on"))

    @property
    def source(self) -> str:
        """First author and year."""
        surname = self.authors.split(" and ")[0].split(",")[0]
        return f"{surname} {self.year}".replace("{\\c{C}}a{\\u{g}}atan", "Çağatan")

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
        fields = {"title": f"{{{self.title}}}", "author": self.authors, "year": str(self.year)}
        if self.venue:
            fields["howpublished"] = self.venue
        if self.arxiv:
            fields |= {"eprint": self.arxiv, "archivePrefix": "arXiv"}
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        return f"@misc{{{self.key},\n{body}\n}}"
