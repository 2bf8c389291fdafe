"""Clients as people use them."""
