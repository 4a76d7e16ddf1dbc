"""Importing this has a process end with the one that started it, in whatever state it is, and not by SIGTERM.

It is the first import of the process that training processes are forked from. That one ends by itself once nobody can
ask it any more; but a training process that is stopped holds the channel open, and both would stay for ever.

SIGTERM is for the agent. A batch system may send it to all processes of a job at once; if this process ended by it, the
training processes would end with it before they had saved.
"""

import signal

from hardviews.elastic.processes import end_with_parent

end_with_parent()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
