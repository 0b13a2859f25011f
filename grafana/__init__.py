"""Dashboards, recording rules and alerts, generated from one Python source; the outputs are committed beside it."""
