"""TRL GRPOTrainer on single-digit addition: 8 prompts x 8 rollouts a step, at most 64 new tokens. One JSON line a step.

    trl_step.py PEERS STEPS [PER_DEVICE_BATCH] [SEED]
"""
import json
import os
import random
import re
import sys
import tempfile

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

ROLLOUTS, GROUP = 64, 8
peers, steps = sys.argv[1], int(sys.argv[2])
batch = int(sys.argv[3]) if len(sys.argv) > 3 else ROLLOUTS
seed = int(sys.argv[4]) if len(sys.argv) > 4 else 1
torch.set_num_threads(os.cpu_count())
random.seed(seed)


def question():
    a, b = random.randint(2, 9), random.randint(2, 9)
    return {"prompt": [{"role": "user", "content": f"What is {a} + {b}?"}], "answer": str(a + b)}


def last_number(completions, answer, **_):
    rewards = []
    for completion, right in zip(completions, answer):
        numbers = re.findall(r"-?\d[\d,]*", completion[0]["content"])
        rewards.append(1.0 if numbers and numbers[-1].replace(",", "") == right else 0.0)
    return rewards


class PrintSteps(TrainerCallback):
    def on_log(self, args, state, control, logs=None, **_):
        if logs and "reward" in logs:
            line = {"peer": "trl", "step_s": logs["step_time"], "reward": logs["reward"], "response_tokens": logs["completions/mean_length"] * ROLLOUTS,
                    "truncated_share": logs["completions/clipped_ratio"]}
            print(json.dumps(line), flush=True)


tokenizer = AutoTokenizer.from_pretrained(peers + "/model/hf")
tokenizer.padding_side, tokenizer.pad_token = "left", "<|endoftext|>"
# TRL ends an answer at the tokenizer's end token and at those of the model's generation config: the latter has <|im_end|>, so answers do end by themselves.
model = AutoModelForCausalLM.from_pretrained(peers + "/model/hf", dtype=torch.float32)
settings = GRPOConfig(
    output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=True, per_device_train_batch_size=batch, gradient_accumulation_steps=ROLLOUTS // batch, num_generations=GROUP,
    max_completion_length=64, learning_rate=1e-5, lr_scheduler_type="constant", max_steps=steps, logging_steps=1, beta=0.0, temperature=1.0, loss_type="dapo",
    epsilon_high=0.28, gradient_checkpointing=False, report_to=[], save_strategy="no", seed=seed)
GRPOTrainer(model=model, reward_funcs=last_number, args=settings, train_dataset=Dataset.from_list([question() for _ in range(2000)]), processing_class=tokenizer,
            callbacks=[PrintSteps()]).train()
