"""Views of DNS: rota's own names (internal) and zones outside by RFC 2136 updates (rfc2136)."""
