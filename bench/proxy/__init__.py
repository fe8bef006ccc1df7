"""Measures sockmesh's proxy against Envoy and no mesh at all, with equal duties: `python -m bench.proxy`."""
