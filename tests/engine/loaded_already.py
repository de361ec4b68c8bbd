"""What the slow subprocess tests preload: stands for libraries that are loaded and quiet, which takes seconds."""

import curator.model.load

curator.model.load.quiet = lambda: None
