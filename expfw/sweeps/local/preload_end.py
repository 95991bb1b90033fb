"""Last module that the fork server imports."""

import gc

gc.freeze()  # otherwise a collection in a trial would write to every object and so copy the server's whole memory
gc.enable()
