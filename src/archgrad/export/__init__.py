"""Export of a trained network: `onnx.export_onnx` and `standalone.export_standalone`.

Both run what they wrote beside the network and refuse to leave behind what computes something else.
"""
