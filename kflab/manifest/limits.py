"""Bounds on untrusted text. Each is far above any real manifest and stops a hostile one early."""

from typing import Final

MAX_TEXT_BYTES: Final = 128 * 1024 * 1024
"""All texts of one load together. A dump of 5,000 nodes and 150,000 pods in short form is about 100 MB; more is
refused before parsing, because the tree takes some ten times its text."""

MAX_DEPTH: Final = 100
"""Nesting of collections. The deepest real manifests (CRD schemas) stay under 60; kept well below Python's
recursion limit, since trees are read recursively."""

MAX_COLLECTIONS: Final = 6_000_000
"""Mappings and sequences in one load. 150,000 pods with status have about 3 million."""

MAX_ALIASED_NODES: Final = 100_000
"""Nodes that aliases stand for in one document, each alias counted with all that is below it (so an alias bomb is
caught though it is small). go-yaml draws the same line by a ratio, in the same words ("excessive aliasing")."""

PACKED_ABOVE_BYTES: Final = 8 * 1024 * 1024
"""Inputs above this size keep their trees packed: a tree is made again when somebody asks for it."""
