// partial-buffer: the durable store of prompts and rollouts, finished or not.
// Keeps a directory; take, claim and serve give rollouts out of it, add, put and commit bring them in. formats/buffer.md describes files and
// requests.
//   partial-buffer take -s run/buffer | rollout-gen --weights run/weights --target-groups 8 | reward-score --scorer gsm8k --model MODEL |
//   partial-buffer put -s run/buffer
#include "buffer/commands.h"
#include "buffer/look_commands.h"
#include "buffer/look_help.h"
#include "cli/main.h"

using namespace april;

namespace {

template <typename Options>
cli::Command Look(const buffer::CommandHelp& help, void (*run)(const Options&, Invocation&), cli::CommonEffects effects = {}) {
  return cli::MakeCommand(help.name, help.summary, help.description, run, effects);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace buffer;
  const cli::Program program = {
      "partial-buffer",
      "the durable store of prompts and rollouts, finished or not",
      "Keeps every rollout of a run in a directory, from its prompt to the checkpoint that it was trained into: nothing is lost and nothing is "
      "trained\n"
      "twice, whatever is killed and whenever.\n"
      "\n"
      "One step on plain pipes:\n"
      "  partial-buffer init -s run/buffer --model MODEL --in-flight 128\n"
      "  partial-buffer add -s run/buffer --prompts prompts.jsonl --epochs 4 --shuffle 1\n"
      "  weight-sync publish --model MODEL --to run/weights --version 0\n"
      "  partial-buffer take -s run/buffer --worker me | rollout-gen --weights run/weights --target-groups 8 |\n"
      "    reward-score --scorer gsm8k --model MODEL | partial-buffer put -s run/buffer\n"
      "  partial-buffer claim -s run/buffer --checkpoints run/checkpoints |\n"
      "    grpo-step --model MODEL --from run/checkpoints --publish run/weights | partial-buffer commit -s run/buffer\n"
      "\n"
      "Resident: serve, with the other programs around its address (pipelines/april.sh).",
      {
          cli::MakeCommand(
              "init", "make a buffer, and fix what holds for the whole run",
              "Makes an empty buffer in a new directory. What is said here holds for the whole run: model, group size, groups a step, rollouts in "
              "flight,\n"
              "sampling. Every rollout carries it, so that no later program has to be told.\n"
              "\n"
              "  partial-buffer init -s run/buffer --model MODEL --group-size 8 --groups-per-step 8 --in-flight 128 --max-tokens 1024",
              &RunInit,
              {.seed = true, .seed_help = "seed of the run: a token's draw depends on it, its rollout's uid and its position in the response alone"}),
          cli::MakeCommand(
              "add", "add prompts",
              "Renders each prompt in the model's chat template, tokenises it once and puts it into the queue. A line is {\"prompt\": text} or "
              "{\"messages\":\n"
              "[…]}, with \"label\" (what the scorer compares with), \"id\" and \"meta\" if wanted. All of a file is added, or nothing.\n"
              "\n"
              "  partial-buffer add -s run/buffer --prompts train.jsonl --epochs 4 --shuffle 1\n"
              "  partial-buffer add --purpose eval --prompts test.jsonl --model MODEL --group-size 4 --out - | rollout-gen --model MODEL | …",
              &RunAdd,
              {.seed = true,
               .seed_help = "seed of an evaluation stream's rollouts; a run has the one that init was given",
               .provenance = true,
               .metrics = true,
               .progress = true}),
          cli::MakeCommand(
              "take", "lease rollouts to a generator: unfinished ones first, then new ones",
              "Journals the leases, then writes the rollouts as a stream. Without a number it takes what the run's in-flight target has room for, "
              "and nothing\n"
              "when enough groups are ready. A lease does not end by time: put ends it, or a later take of the same --worker.\n"
              "Exit 7: others hold everything that is left.\n"
              "\n"
              "  partial-buffer take -s run/buffer --worker gen1 | rollout-gen --weights run/weights --target-groups 8 | partial-buffer put -s "
              "run/buffer",
              &RunTake, {.provenance = true, .metrics = true}),
          cli::MakeCommand(
              "put", "bring finished, unfinished and progress records back",
              "Journals each record as it arrives, synced before it counts. Records of old leases change nothing and are counted. Leased rollouts "
              "that a whole\n"
              "stream did not mention return to the queue; of a cut stream (exit 3) everything that arrived is kept. A complete rollout without a\n"
              "reward is kept and waits for one: export --state complete --stream gives it to a scorer.\n"
              "Counted are records that told something new (accepted), known ones (repeated), those of leases that had ended (superseded), "
              "defective\n"
              "ones (rejected) and what is neither rollout nor progress (other).\n"
              "\n"
              "  … | reward-score --scorer gsm8k --model MODEL | partial-buffer put -s zmq+ipc://run/hub",
              &RunPut, {.metrics = true, .progress = true}),
          cli::MakeCommand(
              "claim", "give the next step's groups to the trainer",
              "Claims ready groups as init --admission says, records the claim and writes it: a control record, then each group with its members. A "
              "recorded claim\n"
              "that is not committed, or that the newest checkpoint lacks, is written again instead. Exit 7: too little is ready, and no claim was "
              "made;\n"
              "a --filter that was given holds from then on all the same. --replay gives recorded claims for a look, and changes nothing.\n"
              "\n"
              "  partial-buffer claim -s run/buffer --checkpoints run/checkpoints | grpo-step --from run/checkpoints … | partial-buffer commit -s "
              "run/buffer\n"
              "  partial-buffer claim -s zmq+ipc://run/hub --follow --steps 60 --checkpoints run/checkpoints | grpo-step … | partial-buffer commit "
              "-s …\n"
              "  partial-buffer claim -s run/buffer --replay 17 --checkpoints run/checkpoints | grpo-step --replay 17 --from run/checkpoints …",
              &RunClaim, {.provenance = true, .metrics = true, .progress = true}),
          cli::MakeCommand(
              "commit", "record what the trainer made of its claims",
              "Reads the trainer's step records: a claim becomes trained, and consumed once a checkpoint that contains it is named. A step of a "
              "claim that is\n"
              "not current is refused; one that was recomputed with other weights, too. Counted are steps that became trained (committed), records "
              "that\n"
              "name a checkpoint of earlier steps (checkpointed), what was known already (repeated) and what is no step record (other).\n"
              "\n"
              "  … | grpo-step --from run/checkpoints … | partial-buffer commit -s run/buffer",
              &RunCommit, {.provenance = true, .metrics = true, .progress = true}),
          cli::MakeCommand(
              "abandon", "give a claim's groups back",
              "Makes the groups of the newest uncommitted claim ready again. Its step can then be claimed anew, and the old trainer's commit is "
              "refused.\n"
              "\n"
              "  partial-buffer abandon -s run/buffer 0123456789abcdef",
              &RunAbandon),
          cli::MakeCommand(
              "rewind", "take the run back to a checkpoint",
              "Makes the groups of every later step ready again, in the order of their steps, and sets newer checkpoints beside it aside (their "
              "manifest is\n"
              "renamed, nothing is deleted): claim and grpo-step then go on from this one. Commits of the steps that were undone are refused. Stop "
              "the "
              "hub first.\n"
              "Exit 1: a step that is needed is no longer kept (init --retain-steps); nothing was changed.\n"
              "\n"
              "  partial-buffer rewind -s run/buffer --to run/checkpoints/step-00000020",
              &RunRewind, {.metrics = true}),
          cli::MakeCommand(
              "drop", "leave groups out for good",
              "Open or ready groups are not issued, claimed or waited for any more; they are kept for a look as long as trained ones, and counted by "
              "reason.\n"
              "Who still generates for them is told to forget them.\n"
              "\n"
              "  partial-buffer drop -s run/buffer --reason 'wrong label' 0123456789abcdef",
              &RunDrop, {.metrics = true}),
          cli::MakeCommand(
              "serve", "the buffer's hub: generators, scorers and trainers stay up around it",
              "Answers the requests of formats/buffer.md until the run's steps are committed, or a signal comes: then generators drain, claims end, "
              "and it waits\n"
              "for them (exit 75). While it runs, writers by path are refused; ls, show, stat and the like go on.\n"
              "\n"
              "  partial-buffer serve -s run/buffer --bind zmq+ipc://run/hub &\n"
              "  rollout-gen --from zmq+ipc://run/hub --weights run/weights | reward-score --scorer gsm8k --model MODEL | partial-buffer put -s "
              "zmq+ipc://run/hub "
              "&\n"
              "  partial-buffer claim -s zmq+ipc://run/hub --follow --steps 60 | grpo-step … | partial-buffer commit -s zmq+ipc://run/hub",
              &RunServe, {.metrics = true}),
          cli::MakeCommand(
              "compact", "make the journal as small as what it adds up to",
              "Writes what the journal adds up to into new files, and lets these take its place, while readers, writers and a hub go on. What it "
              "replaces is\n"
              "deleted by the next compaction, so that a program that has just begun to read still finds it. States, tokens and accounts stay; what\n"
              "goes is history: show then tells of what came before only where a rollout stood, and nothing of those that are no longer kept.\n"
              "\n"
              "  partial-buffer compact -s run/buffer",
              &RunCompact),
          cli::MakeCommand(
              "upgrade", "copy a buffer to the newest format",
              "Writes what a buffer is into a new directory, in the newest format and as small as compact makes it; the old one stays. Builds read "
              "and write\n"
              "all formats of their major version, so this is for what a newer build alone can do.\n"
              "\n"
              "  partial-buffer upgrade run/buffer run/buffer-2",
              &RunUpgrade),
          Look(kLsHelp, &RunLs),
          Look(kShowHelp, &RunShow),
          Look(kStatHelp, &RunStat),
          Look(kGrepHelp, &RunGrep),
          Look(kExportHelp, &RunExport, {.provenance = true}),
          Look(kAuditHelp, &RunAudit),
          Look(kVerifyHelp, &RunVerify, {.progress = true}),
          Look(kRepairHelp, &RunRepair),
      }};
  return cli::Main(program, argc, argv);
}
