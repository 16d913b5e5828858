"""What all components of Scaleway share."""

from __future__ import annotations

from typing import TypeVar

from components.base import Component, Scoped
from components.scaleway.catalogue import catalogue

ArgsT = TypeVar("ArgsT", bound=Scoped)
OutT = TypeVar("OutT")


class ScalewayComponent(Component[ArgsT, OutT]):
    """A component whose children are Scaleway's: their names fit, their tags have Scaleway's form."""

    name_limit = catalogue().limit("name") - catalogue().limit("autoname_suffix")

    @property
    def tags(self) -> list[str]:
        """The scope's tags as Scaleway takes them: a list of texts."""
        return [f"{key}={value}" for key, value in sorted(self.scope.tags.items())]


def localized(identifier: str | None, place: str) -> str | None:
    """The identifier of an existing thing as the provider writes it, zone or region first."""
    return identifier if identifier is None or "/" in identifier else f"{place}/{identifier}"
