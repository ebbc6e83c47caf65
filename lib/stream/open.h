// The kinds of Reader and Writer, by endpoint.
#pragma once

#include <memory>
#include <string_view>

#include "stream/endpoint.h"
#include "stream/reader.h"
#include "stream/writer.h"

namespace april::stream {

std::unique_ptr<Reader> OpenByteReader(const Endpoint& endpoint, const ReaderOptions& options);
std::unique_ptr<Writer> OpenByteWriter(const Endpoint& endpoint, std::string_view header, const WriterOptions& options);
std::unique_ptr<Reader> OpenZmqReader(const Endpoint& endpoint, const ReaderOptions& options);
std::unique_ptr<Writer> OpenZmqWriter(const Endpoint& endpoint, std::string_view header, const WriterOptions& options);

}  // namespace april::stream
