"""A bundle as a server: texts of many requests in common batches, within limits, on one machine or a cluster."""
