# Sourced by the tests here.
model=$APRIL_SOURCE/tests/data/tiny-model

fails() {  # CODE PATTERN COMMAND...: the command must end with this code and say this on stderr, and nothing on stdout
  local code=$1 pattern=$2 status=0
  shift 2
  "$@" >out.txt 2>err.txt || status=$?
  [ "$status" -eq "$code" ] || { echo "expected exit $code, got $status: $*"; cat err.txt; exit 1; }
  grep -q -- "$pattern" err.txt || { echo "expected \"$pattern\" from: $*"; cat err.txt; exit 1; }
  [ ! -s out.txt ] || { echo "unexpected output from: $*"; cat out.txt; exit 1; }
}

# A version large enough to be caught in the middle: SIZE_MB of one tensor, published from a directory that python3 writes without libraries.
big_model() {  # DIR SIZE_MB
  python3 - "$1" "$2" <<'PY'
import json, os, struct, sys
out, megabytes = sys.argv[1], int(sys.argv[2])
hidden, vocab = 64, megabytes * 1000 * 1000 // 128
os.makedirs(out)
config = dict(architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=vocab, hidden_size=hidden, intermediate_size=64, num_hidden_layers=1,
              num_attention_heads=2, num_key_value_heads=2, rms_norm_eps=1e-5, max_position_embeddings=64, tie_word_embeddings=True)
json.dump(config, open(out + "/config.json", "w"))
layer = "model.layers.0."
shapes = {"model.embed_tokens.weight": [vocab, hidden], "model.norm.weight": [hidden], layer + "input_layernorm.weight": [hidden],
          layer + "post_attention_layernorm.weight": [hidden]}
shapes.update({layer + "self_attn." + n + "_proj.weight": [hidden, hidden] for n in "qkvo"})
shapes.update({layer + "mlp." + n + "_proj.weight": [hidden, hidden] for n in ("gate", "up", "down")})
header, offset = {}, 0
for name, shape in shapes.items():
    size = 2
    for d in shape:
        size *= d
    header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
    offset += size
head = json.dumps(header).encode()
with open(out + "/model.safetensors", "wb") as f:
    f.write(struct.pack("<Q", len(head)) + head)
    block = os.urandom(1 << 20)
    while offset:
        f.write(block[:offset])
        offset -= min(offset, len(block))
PY
}
