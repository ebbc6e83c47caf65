# Bad input: one clear line, the right exit code, and what was there stays.
set -euo pipefail
. "$(dirname "$0")/common.bash"

weight-sync publish -q --model "$model" --to w --version 3
fails 2 "--model is needed" weight-sync publish --to w
fails 2 "--to is needed" weight-sync publish --model "$model"
fails 2 "neither a number nor latest" weight-sync fetch --from w --to x --version newest
fails 2 "cannot be combined" weight-sync fetch --from w --to x --version 3 --follow
fails 1 "no model at" weight-sync publish --model nowhere --to w
mkdir checkpoints && cp -r "$model" checkpoints/step-00000002
fails 1 "did you mean checkpoints/step-00000002?" weight-sync publish --model checkpoints --to w
fails 1 "no versions at" weight-sync fetch --from nowhere --to x
fails 1 "no version store at" weight-sync verify nowhere
fails 1 "no version 9" weight-sync verify w --version 9
fails 1 "cannot" weight-sync publish --model "$model" --to /proc/nothing

# Where no version is, or ever will be.
partial-buffer init -q -s buffer --model "$model" --max-tokens 16
ls buffer >before
fails 2 "buffer is a buffer, not a version store" weight-sync publish --model "$model" --to buffer
fails 2 "w/v00000003 is one version of a store, not a version store" weight-sync list w/v00000003
ls buffer | cmp - before
mkdir nothing
fails 7 "no versions in nothing" weight-sync list nothing

cp -r "$model" bad && chmod -R u+w bad
python3 - <<'PY'
import json
c = json.load(open("bad/config.json")); c["architectures"] = ["MambaForCausalLM"]; json.dump(c, open("bad/config.json", "w"))
PY
fails 4 "MambaForCausalLM" weight-sync publish --model bad --to w
cp "$model/config.json" bad/config.json
head -c -1 "$model/model.safetensors" >bad/model.safetensors
fails 3 "bad/model.safetensors" weight-sync publish --model bad --to w
python3 - <<'PY'
import json
c = json.load(open("bad/config.json")); c["intermediate_size"] += 32; json.dump(c, open("bad/config.json", "w"))
PY
cp "$model/model.safetensors" bad/model.safetensors
fails 3 "has shape" weight-sync publish --model bad --to w
printf 'GGUF\003\000\000\000' >cut.gguf
fails 3 "cut.gguf" weight-sync publish --model cut.gguf --to w

# Another model under a number that is taken: refused; superseded on request.
big_model other 1
fails 4 "has other weights" weight-sync publish --model other --to w --version 3
[ "$(weight-sync list w | grep -c .)" = 1 ]
weight-sync verify -q w
weight-sync publish -q --model "$model" --to w --version 5
weight-sync publish -q --model other --to w --version 3 --supersede
[ "$(cat w/LATEST)" = 3 ] && [ ! -e w/v00000005 ]

# A flipped bit is found by verify, and refused by fetch.
weight-sync publish -q --model "$model" --to d
python3 - <<'PY'
with open("d/v00000000/model.safetensors", "r+b") as f:
    f.seek(-7, 2); b = f.read(1); f.seek(-7, 2); f.write(bytes([b[0] ^ 4]))
PY
fails 3 "model.safetensors: its digest is" weight-sync verify d
fails 3 "model.safetensors of version 0 has digest" weight-sync fetch --from d --to e
[ ! -e e/LATEST ] && [ ! -e e/v00000000 ]
# The same weights again repair it.
weight-sync publish -q --model "$model" --to d --version 0
weight-sync verify -q d
weight-sync fetch -q --from d --to e
# Every version is checked and counted, whatever is wrong with one of them.
weight-sync publish -q --model "$model" --to d
rm d/v00000000/config.json
fails 3 "config.json is missing" weight-sync verify d
grep -q "checked 2 versions: 1 whole (.*), 1 damaged" err.txt
weight-sync publish -q --model "$model" --to d --version 0
fails 1 "No space left" bash -c 'weight-sync list d >/dev/full'
rm -r d/v00000001 && echo 0 >d/LATEST
rm d/v00000000/manifest.json
fails 3 "LATEST names version 0, which is not there" weight-sync verify d
# Everything that is wrong is told and every version checked, also when one cannot be read; damage decides the exit code.
for _ in 1 2 3 4; do weight-sync publish -q --model "$model" --to many; done
rm many/v00000000/config.json && mkdir many/v00000000/config.json
fails 1 "many could not be checked whole" weight-sync verify many
grep -q "checked 4 versions: 3 whole (.*), 0 damaged, 1 that could not be read" err.txt
rm many/v00000001/manifest.json && ln -s manifest.json many/v00000001/manifest.json
rm many/v00000002/config.json && echo >>many/v00000002/tokenizer.json
echo newest >many/LATEST
fails 3 "many is damaged" weight-sync verify many
for problem in "v00000000/config.json: Is a directory" "v00000001/manifest.json: Too many levels" "v00000002/config.json is missing" \
  "v00000002/tokenizer.json has" "LATEST names no version"; do
  grep -q "$problem" err.txt || { echo "verify did not tell: $problem"; cat err.txt; exit 1; }
done
grep -q "checked 4 versions: 1 whole (.*), 1 damaged, 2 that could not be read" err.txt
