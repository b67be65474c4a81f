"""Whose turn it is to be built by torch.

Its default dtype, which `from_pretrained` sets while it makes a model's layers, is one for the whole process: those of
another model would come out in it.
"""

import threading

TURN = threading.Lock()
