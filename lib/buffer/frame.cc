#include "buffer/frame.h"

#include <zstd.h>

#include <memory>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"

namespace april::buffer {
namespace {

// On the wire: do not change.
constexpr uint32_t kSkippableMagic = 0x184D2A5A;
constexpr uint32_t kSkippableBytes = kFrameHeaderBytes - 8;
constexpr std::string_view kTag = "APRJ";
constexpr uint16_t kFrameMajor = 1;
constexpr int kCompressionLevel = 3;

/// A context of zstd that a thread keeps: to make one costs as much as a small frame.
template <typename Context, Context* (*make)(), size_t (*free_it)(Context*)>
Context* Kept() {
  struct Free {
    void operator()(Context* context) const { free_it(context); }
  };
  static thread_local const std::unique_ptr<Context, Free> context(make());
  if (!context) throw Error::Runtime("no memory for a context of zstd");
  return context.get();
}

}  // namespace

std::optional<FrameHeader> ParseFrameHeader(std::string_view bytes) {
  if (bytes.size() < kFrameHeaderBytes) return std::nullopt;
  const char* at = bytes.data();
  if (LoadLe<uint32_t>(at) != kSkippableMagic || LoadLe<uint32_t>(at + 4) != kSkippableBytes || bytes.substr(8, 4) != kTag) return std::nullopt;
  if (LoadLe<uint64_t>(at + 64) != Digest(at + 8, 56)) return std::nullopt;
  if (const auto major = LoadLe<uint16_t>(at + 12); major != kFrameMajor) {
    throw Error::Incompatible(
        "journal frame of format version " + std::to_string(major) + ", this build reads version " + std::to_string(kFrameMajor),
        "use the build that wrote it");
  }
  FrameHeader header;
  header.sequence = LoadLe<uint64_t>(at + 16);
  header.compressed_bytes = LoadLe<uint32_t>(at + 24);
  header.raw_bytes = LoadLe<uint32_t>(at + 28);
  header.digest = LoadLe<uint64_t>(at + 32);
  header.writer_epoch = LoadLe<uint64_t>(at + 40);
  header.synced = LoadLe<uint64_t>(at + 48);
  header.segment = LoadLe<uint32_t>(at + 56);
  header.num_entries = LoadLe<uint32_t>(at + 60);
  return header;
}

std::string EncodeFrame(FrameHeader header, std::string_view raw) {
  if (raw.size() > kMaxRawFrameBytes) {
    throw Error::Data("a transaction of " + HumanBytes(raw.size()) + " exceeds the journal's limit of " + HumanBytes(kMaxRawFrameBytes));
  }
  std::string frame(kFrameHeaderBytes + ZSTD_compressBound(raw.size()), '\0');
  const size_t compressed = ZSTD_compressCCtx(Kept<ZSTD_CCtx, ZSTD_createCCtx, ZSTD_freeCCtx>(), frame.data() + kFrameHeaderBytes,
                                              frame.size() - kFrameHeaderBytes, raw.data(), raw.size(), kCompressionLevel);
  if (ZSTD_isError(compressed)) throw Error::Runtime(std::string("cannot compress a journal frame: ") + ZSTD_getErrorName(compressed));
  frame.resize(kFrameHeaderBytes + compressed);
  char* at = frame.data();
  StoreLe<uint32_t>(at, kSkippableMagic);
  StoreLe<uint32_t>(at + 4, kSkippableBytes);
  kTag.copy(at + 8, kTag.size());
  StoreLe<uint16_t>(at + 12, kFrameMajor);
  StoreLe<uint16_t>(at + 14, 0);
  StoreLe<uint64_t>(at + 16, header.sequence);
  StoreLe<uint32_t>(at + 24, static_cast<uint32_t>(compressed));
  StoreLe<uint32_t>(at + 28, static_cast<uint32_t>(raw.size()));
  StoreLe<uint64_t>(at + 32, Digest(at + kFrameHeaderBytes, compressed));
  StoreLe<uint64_t>(at + 40, header.writer_epoch);
  StoreLe<uint64_t>(at + 48, header.synced);
  StoreLe<uint32_t>(at + 56, header.segment);
  StoreLe<uint32_t>(at + 60, header.num_entries);
  StoreLe<uint64_t>(at + 64, Digest(at + 8, 56));
  return frame;
}

std::string DecodeFrame(const FrameHeader& header, std::string_view compressed) {
  if (compressed.size() != header.compressed_bytes || Digest(compressed) != header.digest) throw Error::Data("its digest does not fit its bytes");
  if (header.raw_bytes > kMaxRawFrameBytes) throw Error::Data("it claims " + HumanBytes(header.raw_bytes) + ", more than any frame may have");
  std::string raw(header.raw_bytes, '\0');
  const size_t got =
      ZSTD_decompressDCtx(Kept<ZSTD_DCtx, ZSTD_createDCtx, ZSTD_freeDCtx>(), raw.data(), raw.size(), compressed.data(), compressed.size());
  if (ZSTD_isError(got) || got != raw.size()) throw Error::Data("its entries cannot be decompressed");
  return raw;
}

}  // namespace april::buffer
