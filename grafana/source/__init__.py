"""The source of everything under ``grafana/``: ``python -m grafana.source`` writes it, ``--check`` compares."""
