"""The admin port: /metrics, /livez, /readyz, /drain and the landing page."""
