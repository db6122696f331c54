"""Where an app is reached: ``domains:`` in rota.yaml, and the sites that the balancer makes of it; read by spec, begin,
routes and the balancer's adapter.

A site is kept as one text: ``www.example.org``, ``*.example.org``, ``www.example.org/api``, and
``example.org > www.example.org`` for a name that only leads on to another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from rota.core.model import Model, misplaced
from rota.core.names import DomainName, domain_name
from rota.core.quantities import quoted

_WILD = "*."
_LEADS = " > "
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+", re.ASCII)


@dataclass(frozen=True, order=True)
class Site:
    """``host`` may begin with ``*.``, which stands for one label; ``path`` "" is the whole host, another one what is at
    or below it; ``leads_to`` is the host that users are sent on to."""

    host: str
    path: str = ""
    leads_to: str = ""

    @property
    def key(self) -> str:
        """What no two apps share."""
        return f"{self.host}{self.path}"

    @property
    def wild(self) -> bool:
        return self.host.startswith(_WILD)

    def __str__(self) -> str:
        return f"{self.host}{_LEADS}{self.leads_to}" if self.leads_to else self.key


def site(text: str) -> Site:
    """Reads a site; raises ValueError for what is none."""
    host, _, leads_to = text.partition(_LEADS)
    if leads_to:
        return Site(domain_name(host), leads_to=domain_name(leads_to))
    host, slash, path = text.partition("/")
    return Site(host_name(host), path_below(slash + path))


def host_name(text: str) -> str:
    """A domain name, or one whose first label is ``*``."""
    return _WILD + domain_name(text.removeprefix(_WILD)) if text.startswith(_WILD) else domain_name(text)


def path_below(text: str) -> str:
    """A path of whole segments, without the slash at its end; "" is all of them."""
    path = text.removesuffix("/")
    if path and (len(path) > 200 or not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/"))):
        raise ValueError(f"a path such as /api is expected, of a-z, A-Z, 0-9, . _ ~ and -, not {quoted(text)}")
    return path


def taken(ours: Iterable[str], theirs: Iterable[str]) -> str | None:
    """The first of the sites that another's have already."""
    keys = {site(text).key for text in theirs}
    return next((found.key for found in map(site, sorted(ours)) if found.key in keys), None)


def check_host(sites: Iterable[str]) -> str:
    """The host that health checks ask for: one that the app knows as its own."""
    read = [found for found in map(site, sites) if not found.leads_to]
    for found in sorted(read, key=lambda found: (found.wild, found.path != "")):  # stable: the first of the best
        return found.host.replace("*", "rota", 1)
    return "localhost"


def _names(value: object) -> object:
    if isinstance(value, list | tuple):
        return value
    raise ValueError(f"a list of names is expected, such as [example.org], not {quoted(value)}")


class Domain(Model):
    """``aliases`` are sent on to ``domain`` (H10)."""

    domain: Annotated[str, AfterValidator(host_name)]
    path: Annotated[str, AfterValidator(path_below)] = ""
    aliases: Annotated[tuple[DomainName, ...], BeforeValidator(_names), Field(max_length=100)] = ()

    @field_validator("aliases")
    @classmethod
    def _to_a_whole_host(cls, value: tuple[str, ...], read: ValidationInfo) -> tuple[str, ...]:
        if value and read.data.get("path"):
            raise ValueError("an alias leads to a whole domain; give it beside an entry without a path")
        if value and read.data.get("domain", "").startswith(_WILD):
            raise ValueError("an alias leads to one domain, not to all of a wildcard")
        return value

    def sites(self) -> Iterator[tuple[Site, tuple[str | int, ...]]]:
        """Each with the key of the file that it comes from, below this entry's."""
        yield Site(self.domain, self.path), ("domain",)
        for index, alias in enumerate(self.aliases):
            yield Site(alias, leads_to=self.domain), ("aliases", index)


def each_once(entries: tuple[Domain, ...]) -> tuple[Domain, ...]:
    """The entries, or an error that carries the place of the first site that is there twice."""
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        for found, key in entry.sites():
            if found.key in seen:
                raise misplaced(f"{quoted(found.key)} is given twice", (index, *key))
            seen.add(found.key)
    return entries
