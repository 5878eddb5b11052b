"""The data sets: `load.load` decodes a data set to uint8 arrays, caches them, and splits it."""
