"""A model in LitServe, with its batching, written from its documentation."""

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np
import onnxruntime
from PIL import Image


class Api(litserve.LitAPI):
    """Takes {"image": base64}."""

    def setup(self, device: str) -> None:
        folder = Path(sys.argv[1])
        self.about = json.loads((folder / "about.json").read_text())
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"))

    def decode_request(self, request: dict[str, str]) -> Any:
        height, width, channels = self.about["image"]
        image = Image.open(io.BytesIO(base64.b64decode(request["image"])))
        image = image.convert("L" if channels == 1 else "RGB")
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(image, dtype=np.uint8).reshape(height, width, channels)

    def batch(self, inputs: list[Any]) -> Any:
        return np.stack(inputs)

    def predict(self, images: Any) -> Any:
        return self.session.run(None, {"images": images})[0]

    def unbatch(self, output: Any) -> Any:
        return list(output)

    def encode_response(self, output: Any) -> dict[str, Any]:
        values, classes = output.tolist(), self.about["classes"]
        best = max(range(len(values)), key=values.__getitem__)
        return {
            "class": classes[best],
            "probability": values[best],
            "probabilities": dict(zip(classes, values, strict=True)),
        }


if __name__ == "__main__":
    api = Api(max_batch_size=64, batch_timeout=0.005)
    litserve.LitServer(api, accelerator="cpu").run(
        port=int(sys.argv[2]), host="127.0.0.1", generate_client_file=False, log_level="error"
    )
