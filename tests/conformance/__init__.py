"""The Autobahn cases (kosoku), direct and through the sidecar: every verdict must be the same."""
