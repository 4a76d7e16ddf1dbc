"""The name of a published protocol, as the record and the tables have it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Label:
    """The name of a published protocol in the record; empty for protocols of one form.

    Attributes:
        name: for example "simsiam", or "simsiam, changed".
        version: of its values.
        changes: the options that differ from the published ones, for example "epochs 2".
    """

    name: str = ""
    version: int = 0
    changes: str = ""

    def title(self, command: str) -> str:
        """Return the name of an evaluation for people: "linear simsiam"."""
        return f"{command} {self.name}".rstrip()

    @property
    def tag(self) -> str:
        """Name, version and changes."""
        return f"{self.name.split(',')[0]} {self.version}" + (f", changed: {self.changes}" if self.changes else "")
