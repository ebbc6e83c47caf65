#include "buffer/look_help.h"

namespace april::buffer {

const CommandHelp kLsHelp = {
    "ls", "list rollouts or groups",
    R"(One line a rollout, in the order of issue. Reads without a lock, also while a hub serves the buffer. Groups that were not issued yet, and trained ones
older than the kept steps, are not listed.

  partial-buffer ls -s run/buffer --state partial,leased --where tokens>=500 --sort age --limit 20
  partial-buffer ls -s run/buffer --columns uid,tokens,staleness,worker --sort staleness
  partial-buffer ls -s run/buffer --groups --where scored<4
  partial-buffer ls -s run/buffer --columns help
  partial-buffer ls -s run/buffer --json | jq -c 'select(.reward == 1) | [.uid, .prompt_id]')"};

const CommandHelp kShowHelp = {
    "show", "one rollout, or one group: what is known of it, its history, prompt and response as text",
    R"(The history is every entry of the journal that named it: leased by whom, progress, put, scored, late records, claimed, trained, consumed; with time and
place. It finds rollouts that were trained long ago too, as long as the journal has them. The response is coloured by the policy version that made each
token, on a terminal; it is shown without the stop token that ended it. Times are UTC.

  partial-buffer show -s run/buffer 3fa9)"};

const CommandHelp kStatHelp = {
    "stat", "settings, counts by state, lengths, staleness, waste, leases, claims",
    R"(Reads a directory without a lock, or asks a hub. The settings are what init was given, as its options. The two columns of bars are the lengths of all finished rollouts beside those of the trained ones, each
as shares of its own: longer bars for the short ones on the right mean that what finishes first is trained first.

  partial-buffer stat -s run/buffer
  partial-buffer stat -s zmq+ipc://run/hub --json | jq .config)"};

const CommandHelp kGrepHelp = {
    "grep", "look for a pattern in the text of responses",
    R"(Prints uid:response:LINE:text for each line that matches, as grep does with files. Exit 0 when a line matched and 1 when none did, as grep's, without a
message; 2 for a bad pattern or option. The text is that of show: without the stop token that ended a response.

  partial-buffer grep -s run/buffer 'I (cannot|can.t)' --state scored --where reward=0 --context 1
  partial-buffer grep -s run/buffer '\\boxed' --count)"};

const CommandHelp kExportHelp = {
    "export", "rollouts as JSON lines, or as a stream to be scored again",
    R"(A line a rollout: the keys of its record (formats/records.md; ids as 16 hexadecimal digits, per-token arrays as lists), then `state` and `group_state` of
the buffer, `prompt` and `text` decoded; `text` is what graders see, without the stop token that ended it (the last of `tokens`). With --no-tokens
`num_prompt_tokens` and `num_tokens` stand for the arrays.

With --stream it writes the records as they are, but for their leases, and changes nothing: complete rollouts that came without a score, or whose grader
failed, get one this way (also beside a hub, whose address put is given then), and scored ones another, until their group is claimed.

  partial-buffer export -s run/buffer --state scored --where reward>0.9 --no-tokens | jq -r .text
  partial-buffer export -s run/buffer --where claimed_step=12 --out step-12.jsonl
  partial-buffer export -s run/buffer --state complete --stream | reward-score --rescore --scorer gsm8k --model MODEL | partial-buffer put -s run/buffer)"};

const CommandHelp kAuditHelp = {
    "audit", "prove that nothing was lost and nothing trained twice",
    R"(Reads the journal by itself, entry by entry and payload by payload, and proves: journaled = trained + held + dropped + superseded, of rollouts and of
tokens; no journaled token was lost; nothing was trained twice; every commit has its claim; and all other commands see the same. Exit 3 otherwise, with
what is wrong, where, and what repair would do. It reads the buffer alone; whether the trainer's checkpoints fit is what claim --checkpoints looks at.

  partial-buffer audit -s run/buffer)"};

const CommandHelp kVerifyHelp = {
    "verify", "read every byte and tell all that is damaged",
    R"(Reads the manifest, every frame with its digest and sequence, every entry, every record; then every rollout as other commands read it. Goes on behind
damage. Exit 3 when anything is damaged or torn: a line each with what and where, and one with what repair would do.

  partial-buffer verify -s run/buffer)"};

const CommandHelp kRepairHelp = {
    "repair", "make a damaged buffer sound again; nothing is deleted",
    R"(Keeps the journal up to the first damage. What follows, and files that nothing names, move to lost+found/N in the buffer, with a report. Entries behind
the damage that can still stand are journaled again; those that cannot are told: which rollouts, claims and commits. Stop the hub first.

  partial-buffer repair -s run/buffer --dry-run)"};

}  // namespace april::buffer
