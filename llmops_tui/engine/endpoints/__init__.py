"""Endpoints: what is served under which name, kept at rest and kept so. The gateway and the replicas are processes of their own."""
