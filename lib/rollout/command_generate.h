// What rollout-gen does besides answering one prompt: generation from a stream or from a source of work, into a stream.
#pragma once

#include "base/invocation.h"
#include "record/records.h"
#include "rollout/generator.h"
#include "rollout/scheduler.h"
#include "rollout/work_source.h"
#include "stream/endpoint.h"

namespace april::rollout {

/// Reads all of --in, generates what is unfinished there, and writes everything to --out. An input whose writer failed is passed on as it came.
void GenerateFromStream(const stream::Endpoints& io, const ScheduleOptions& schedule, Generator& generator, Invocation& invocation);

/// Generates what `source` gives until it wants no more, and writes a stream with this header to --out. `schedule`: from Generator::Complete.
void GenerateFromSource(WorkSource& source, const record::Header& header, const stream::Endpoints& io, const ScheduleOptions& schedule,
                        Engine& engine, Invocation& invocation);

}  // namespace april::rollout
