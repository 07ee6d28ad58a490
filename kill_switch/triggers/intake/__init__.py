"""Receive heartbeats and figures from outside, in datagrams."""
