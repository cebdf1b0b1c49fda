"""Property tests draw the same examples on every run, so that a green tree stays green; KFLAB_FUZZ=1 draws anew."""

import os

from hypothesis import settings

settings.register_profile("steady", derandomize=True, deadline=None)
if not os.environ.get("KFLAB_FUZZ"):
    settings.load_profile("steady")
