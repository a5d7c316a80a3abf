"""A real S3 server on this machine, and a proxy before it that counts requests and makes faults."""
