"""Python's garbage collector, held off while many objects are made that all stay."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def passed_over() -> Iterator[None]:
    """Look for garbage only among what is made meanwhile: what is there already stays.

    A full look through the objects of a cluster of 1,000 nodes takes half a second.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def held_off() -> Iterator[None]:
    """Look for no garbage meanwhile: among millions of objects that stay it costs a third of the time.

    What was made counts as old afterwards, so that the next quick look for garbage passes it over.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            if not gc.get_freeze_count():  # a running lab's own objects stay frozen
                gc.freeze()
                gc.unfreeze()
            gc.enable()
