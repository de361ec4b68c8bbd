"""What the slow subprocess tests preload: stands for libraries that are loaded and quiet, which takes seconds."""

import curator.model

curator.model.quiet = lambda: None
