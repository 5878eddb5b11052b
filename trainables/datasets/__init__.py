"""The data sets, one a file; `load.load` decodes, splits and caches them as uint8 arrays."""
