#include "rollout/command_generate.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "record/io.h"
#include "rollout/meter.h"

namespace april::rollout {
namespace {

struct StreamSink : Sink {
  record::RecordWriter writer;
  StreamSink(const stream::Endpoints& io, record::Header header, std::optional<uint64_t> policy_version, const Invocation& invocation)
      : writer(io.out, Complete(std::move(header), policy_version, invocation), {.compress = io.compress, .peer_timeout_ms = io.peer_timeout_ms}) {}
  void Write(const record::Record& record) override { writer.Write(record); }
  void Flush() override { writer.Flush(); }

 private:
  static record::Header Complete(record::Header header, std::optional<uint64_t> policy_version, const Invocation& invocation) {
    header.policy_version = policy_version;
    return record::Signed(std::move(header), invocation);
  }
};

/// Generates from what the scheduler was given, or its source gives, and ends the stream.
void Generate(const Engine& engine, Scheduler& scheduler, int64_t target_groups, record::RecordWriter& writer, Invocation& invocation) {
  Meter meter(engine, scheduler, target_groups);
  scheduler.set_observer([&] {
    if (meter.MetricsDue()) invocation.metrics(meter.TakeMetrics());
    if (invocation.progress_due()) invocation.progress(meter.done(), meter.total(), meter.ProgressText());
  });
  ScheduleEnd end;
  try {
    end = scheduler.Run();
  } catch (const Error&) {
    invocation.summary = meter.Summary();
    try {
      writer.Finish(stream::EndStatus::kError);
    } catch (const Error&) {  // the first error is the one to report
    }
    throw;
  }
  invocation.metrics(meter.TakeMetrics());
  invocation.summary = meter.Summary();
  const bool stopped = end == ScheduleEnd::kStopped;
  writer.Finish(stopped ? stream::EndStatus::kStopped : stream::EndStatus::kOk);
  if (stopped || scheduler.counters().defective > 0) invocation.exit_code = static_cast<int>(stopped ? ErrorKind::kStopped : ErrorKind::kRejects);
}

/// Of an input whose writer failed nothing is generated and nothing lost: its records go on as they came.
void PassOn(const stream::Endpoints& io, const record::Header& header, const std::vector<record::Record>& records, Invocation& invocation) {
  StreamSink sink(io, header, header.policy_version, invocation);
  for (const record::Record& record : records) sink.Write(record);
  sink.writer.Finish(stream::EndStatus::kError);
  invocation.summary = "read " + std::to_string(records.size()) + " records, passed " + std::to_string(records.size()) + " on";
  record::RequireGoodEnd(stream::EndStatus::kError);
}

}  // namespace

void GenerateFromStream(const stream::Endpoints& io, const ScheduleOptions& schedule, Generator& generator, Invocation& invocation) {
  stream::ReaderOptions reading;
  reading.peer_timeout_ms = io.peer_timeout_ms;
  reading.sources = io.sources;
  record::RecordReader reader(io.in, reading);
  generator.CheckTokenizer(reader.header().tokenizer, io.in == "-" ? "the input" : io.in);
  std::vector<record::Record> records;
  int64_t unfinished = 0;
  size_t longest = 1;
  while (auto record = reader.Next()) {
    if (const auto* rollout = std::get_if<record::Rollout>(&*record)) {
      unfinished += rollout->status == record::Status::kQueued || rollout->status == record::Status::kPartial;
      longest = std::max(longest, rollout->prompt_tokens.size() + static_cast<size_t>(std::max<int64_t>(0, rollout->max_tokens)));
    }
    records.push_back(std::move(*record));
  }
  if (reader.end_status() == stream::EndStatus::kError) return PassOn(io, reader.header(), records, invocation);
  Engine& engine = generator.Start(std::min<int64_t>(unfinished, 64), static_cast<int64_t>(longest));
  StreamSink sink(io, reader.header(), engine.policy().version, invocation);
  Scheduler scheduler(generator.Complete(schedule), engine, sink, nullptr);
  for (record::Record& record : records) scheduler.Give(std::move(record));
  records.clear();
  Generate(engine, scheduler, schedule.target_groups, sink.writer, invocation);
  if (reader.end_status() == stream::EndStatus::kStopped) invocation.exit_code = static_cast<int>(ErrorKind::kStopped);
}

void GenerateFromSource(WorkSource& source, const record::Header& header, const stream::Endpoints& io, const ScheduleOptions& schedule,
                        Engine& engine, Invocation& invocation) {
  StreamSink sink(io, header, engine.policy().version, invocation);
  Scheduler scheduler(schedule, engine, sink, &source);
  Generate(engine, scheduler, schedule.target_groups, sink.writer, invocation);
}

}  // namespace april::rollout
