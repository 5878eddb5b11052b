"""The data sets: `load.load` decodes one to uint8 arrays, which are cached, and splits it."""
