"""What enrollments nest: sequences, people, mailboxes and plays."""

from collections.abc import Callable
from random import Random

from unify_source.sandbox.invent import words
from unify_source.sandbox.invent.chance import dice, pick, uuid
from unify_source.sandbox.invent.rows import NO_PLAY, Document, Entities, Shared

PEOPLE_SHARE = 0.8

_BY_PLAY = 0.6
_NO_FIRST_NAME = 0.04
_NO_LAST_NAME = 0.06
_NO_LINKEDIN = 0.2
_NO_DISPLAY_NAME = 0.15
_PAUSED_SEQUENCES = 0.1
_PAUSED_MAILBOXES = 0.1
_UNAUTHORIZED_MAILBOXES = 0.05
_FEW_BOUNCED = (1, 1, 2)
_MANY_BOUNCED, _MANY_BOUNCED_EVERY = 9, 10

Cells = tuple[Shared, Shared, Shared, Shared]


def person(at: int, rng: Random, name: str) -> Document:
    """Return the person with this number; no two numbers share an address."""
    first, slug = words.FIRST_NAMES[at % len(words.FIRST_NAMES)]
    last, last_slug = words.LAST_NAMES[at % len(words.LAST_NAMES)]
    company = words.COMPANIES[at % len(words.COMPANIES)][1]
    namesakes = at // (len(words.FIRST_NAMES) * len(words.LAST_NAMES) * len(words.COMPANIES))
    return {
        "id": name,
        "email": f"{slug}.{last_slug}{namesakes or ''}@{company}",
        "first_name": None if rng.random() < _NO_FIRST_NAME else first,
        "last_name": None if rng.random() < _NO_LAST_NAME else last,
        "linkedin_url": None
        if rng.random() < _NO_LINKEDIN
        else f"https://www.linkedin.com/in/{slug}-{last_slug}-{name[:6]}",
    }


def sequence(at: int, rng: Random, name: str) -> Document:
    """Return the sequence with this number."""
    edition = at // (len(words.CAMPAIGNS) * len(words.SEGMENTS))
    campaign = words.CAMPAIGNS[at % len(words.CAMPAIGNS)]
    title = words.SEQUENCE.format(campaign, words.SEGMENTS[at % len(words.SEGMENTS)])
    return {
        "id": name,
        "name": f"{title} v{edition + 1}" if edition else title,
        "is_paused": rng.random() < _PAUSED_SEQUENCES,
    }


def mailbox(at: int, rng: Random, name: str) -> Document:
    """Return the sender's mailbox with this number."""
    first, slug = words.FIRST_NAMES[at % len(words.FIRST_NAMES)]
    last = words.LAST_NAMES[-1 - at % len(words.LAST_NAMES)][0]
    domain = pick(("outreach.example", "get-acme.example", "acme.example.com"), rng)
    return {
        "id": name,
        "email": f"{slug}{at + 1}@{domain}",
        "display_name": None if rng.random() < _NO_DISPLAY_NAME else f"{first} {last} (Acme)",
        "is_paused": rng.random() < _PAUSED_MAILBOXES,
        "is_unauthorized": rng.random() < _UNAUTHORIZED_MAILBOXES,
    }


def bounced(at: int, name: str) -> int:
    """Return how many of a hundred enrollments bounce in the mailbox with this number."""
    # Its own dice: a mailbox does not change what is thrown for the rows.
    return _MANY_BOUNCED if at % _MANY_BOUNCED_EVERY == 0 else pick(_FEW_BOUNCED, dice(name))


def play(at: int, _rng: Random, name: str) -> Document:
    """Return the play with this number."""
    return {"id": name, "name": words.PLAYS[at]}


class Cast:
    """The sequences, mailboxes, plays and people of an account with `size` enrollments."""

    def __init__(self, size: int, rng: Random) -> None:
        self.entities = Entities()
        self._rng = rng
        self._sequences = self._many("sequence", max(3, size // 500), sequence)
        self._mailboxes = self._many("mailbox", max(2, size // 1000), mailbox)
        self.bounced = {box.id: bounced(at, box.id) for at, box in enumerate(self._mailboxes)}
        self._plays = self._many("enrolled_by_play", len(words.PLAYS), play)
        self._people = self._many("person", max(1, round(size * PEOPLE_SHARE)), person)

    def cells(self, number: int) -> Cells:
        """Return the entities that an enrollment nests, by number; each person has one or more."""
        rng, people = self._rng, self._people
        return (
            pick(self._sequences, rng),
            people[number] if number < len(people) else pick(people, rng),
            pick(self._mailboxes, rng),
            pick(self._plays, rng) if rng.random() < _BY_PLAY else NO_PLAY,
        )

    def _many(
        self, kind: str, count: int, make: Callable[[int, Random, str], Document]
    ) -> list[Shared]:
        rng = self._rng
        return [self.entities.cell(kind, make(at, rng, uuid(rng))) for at in range(count)]
