"""A model in a FastAPI endpoint, as a good programmer would write it: one file, ONNX Runtime."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
from fastapi import FastAPI, UploadFile
from PIL import Image

FOLDER = Path(os.environ["MODEL_FOLDER"])
ABOUT = json.loads((FOLDER / "about.json").read_text())
HEIGHT, WIDTH, CHANNELS = ABOUT["image"]
SESSION = onnxruntime.InferenceSession(str(FOLDER / "model.onnx"))
app = FastAPI()


@app.get("/ping")
async def ping() -> dict[str, str]:
    return {}


@app.post("/predict")
def predict(file: Annotated[UploadFile, "an image"]) -> dict[str, Any]:
    image = Image.open(file.file).convert("L" if CHANNELS == 1 else "RGB")
    if image.size != (WIDTH, HEIGHT):
        image = image.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.uint8).reshape(1, HEIGHT, WIDTH, CHANNELS)
    (found,) = SESSION.run(None, {"images": pixels})
    values = found[0].tolist()
    best = max(range(len(values)), key=values.__getitem__)
    return {
        "class": ABOUT["classes"][best],
        "probability": values[best],
        "probabilities": dict(zip(ABOUT["classes"], values, strict=True)),
    }
