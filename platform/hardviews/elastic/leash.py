"""An import of this module ends the process with the process that started it, in any state, and not by SIGTERM.

It is the first import of the prepared process, from which training processes are forked. The prepared process ends by
itself once nobody can send it requests. But a stopped training process holds the channel open, and both would stay for
ever.

SIGTERM is for the agent. A batch system may send it to all processes of a job at once. If the prepared process ended by
it, the training processes would end too, before they had saved.
"""

import signal

from hardviews.elastic.processes import end_with_parent

end_with_parent()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
