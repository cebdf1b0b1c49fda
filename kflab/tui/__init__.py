"""The screen.

By default Textual paints what a key changed only when 1/60 s has passed since its last frame: the longest single wait
between a key and its paint. Here it is 4 ms; how often the lab itself is drawn does not depend on it (`app.FRAMES_*`).
"""

import os

os.environ.setdefault("TEXTUAL_FPS", "240")
