"""Take heartbeats and figures from outside, over datagrams."""
