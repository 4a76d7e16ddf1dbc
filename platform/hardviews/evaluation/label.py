"""The name of a published protocol, or of the stage that was read, as the record and the tables have it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Label:
    """The name of a published protocol or of a stage in the record; empty for protocols of one form.

    Attributes:
        name: for example "simsiam", "simsiam, changed", or "stage 4".
        version: version of its values; 0 for a stage.
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
        """Name, version if there is one, and changes."""
        name = self.name.split(",")[0] + (f" {self.version}" if self.version else "")
        return name + (f", changed: {self.changes}" if self.changes else "")
