"""What tests preload into workers that shall take this machine for one with GPUs, as if torch found one there."""

import curator.model.load
from curator import provenance

provenance.usable_device = lambda: "cuda"
curator.model.load.quiet = lambda: None
