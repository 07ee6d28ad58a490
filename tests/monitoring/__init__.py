"""The files of `monitoring/`, by Prometheus's own tools and beside a real daemon: `nox -s monitoring`."""
