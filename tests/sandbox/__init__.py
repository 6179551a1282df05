"""The harness of the live tier: a place apart on this kernel, and iproute2, nft and packets as witnesses."""
