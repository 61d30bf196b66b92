"""A trained network for other programs: StableHLO, ONNX, packages of the BioImage Model Zoo."""
