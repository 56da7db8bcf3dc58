"""The customer's own pages at `/console`, signed in by API key."""
