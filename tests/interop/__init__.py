"""The interop tier: the real Docker, Podman and CNI beside topo, in the sandbox of the live tests."""
