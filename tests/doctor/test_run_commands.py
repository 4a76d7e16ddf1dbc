"""What our own commands say about a run is packed, and their refusals are noted."""

from hardviews.doctor.bug_report.archive import Archive
from hardviews.doctor.bug_report.run import _command


def test_a_command_that_answers():
    archive = Archive()
    _command(archive, "recipes.txt", ["recipes", "--help"])
    assert "recipes.txt" in archive.sizes and archive.notes == []


def test_a_command_that_refuses():
    archive = Archive()
    _command(archive, "audit.json", ["no-such-command"])
    assert archive.sizes == {}
    assert "audit.json is missing: hardviews: There is no command 'no-such-command'" in archive.notes[0]
