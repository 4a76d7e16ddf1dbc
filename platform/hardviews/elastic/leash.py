"""Importing this has a process end with the one that started it, in whatever state it is.

It is the first import of the process that training processes are forked from. That one ends by itself once nobody can
ask it any more; but a training process that is stopped holds the channel open, and both would stay for ever.
"""

from hardviews.elastic.processes import end_with_parent

end_with_parent()
