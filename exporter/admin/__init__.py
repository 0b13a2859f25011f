"""The admin port: metrics, health, drain, the page and the reports of closes."""

#: The header that POST /drain needs: no page of another site can send it without a CORS preflight.
DRAIN_HEADER = "X-Websocket-Exporter"
