"""The recipe of our own networks, from pictures to ONNX. Read README.md first."""
