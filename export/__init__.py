"""From a checkpoint to artefacts: the ONNX graph, its quantized forms, and what each backend makes of them."""

if __name__ == "export":
    # The folder is installed as edgedenoise.exporting; a second copy of its modules would have classes of its own.
    raise ImportError("export/ is installed as edgedenoise.exporting: write `import edgedenoise.exporting`")
