"""FOLDER/smollm2.gguf as transformers reads it, rounded to bf16: FOLDER/hf.   to_hugging_face.py FOLDER"""
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, name = sys.argv[1], "smollm2.gguf"
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
config = model.config
if hasattr(config, "quantization_config"):  # what was loaded is no longer quantised
    del config.quantization_config
plain = type(model)(config)
plain.load_state_dict(model.state_dict())
plain.to(torch.bfloat16).save_pretrained(folder + "/hf")
AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(folder + "/hf")
