"""An import of this module ends the process together with the process that started it, in any state.

It is the first import of the prepared process, from which training processes are forked. The prepared process ends by
itself once nobody can send it requests. But a stopped training process holds the channel open, and both would stay for
ever.
"""

from hardviews.elastic.processes import end_with_parent

end_with_parent()
