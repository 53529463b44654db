"""Imported once by the process that others are forked from (`warm.py`)."""

import onnxruntime  # noqa: F401
import sentence_transformers  # noqa: F401
import tokenizers  # noqa: F401
import torch  # noqa: F401
from transformers import AutoModel, AutoTokenizer, Trainer  # noqa: F401

import contrastill.cli
import contrastill.training.commands  # noqa: F401
from contrastill.bundle import imported

imported("openvino", "openvino")
