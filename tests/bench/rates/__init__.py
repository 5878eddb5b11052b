"""Every error rate, interval and power that the product states, measured beside its promise."""
