"""A mini-web for trying the pipeline without any download: see quickstart/README.md."""
