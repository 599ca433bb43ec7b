"""Executors as sandboxes of an E2B account. Nothing else talks to E2B, and here everything goes through a `Desk`."""
