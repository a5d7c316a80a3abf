"""A mini-web on this machine, to try the pipeline without downloads: see quickstart/README.md."""
