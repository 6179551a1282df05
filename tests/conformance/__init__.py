"""The conformance suite: what every kind in the registry has to keep to, on the fake kernel and on the real one.

`case` says what a case is, `links` and `objects` hold them as data, `witness` reads the kernel by iproute2 and nft,
`rig` drives the engine. A kind without cases, or an attribute without, fails tests/test_conformance_fake.py.
"""
