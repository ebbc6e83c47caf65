#include "stream/zstd_io.h"

#include <zstd.h>

#include <algorithm>
#include <vector>

#include "base/error.h"

namespace april::stream {
namespace {

constexpr int kLevel = 3;
constexpr int kMaxWindowLog = 23;  // 8 MiB
constexpr size_t kFrameBytes = 1 << 20;

class ZstdSource final : public ByteSource {
 public:
  explicit ZstdSource(std::unique_ptr<ByteSource> compressed)
      : compressed_(std::move(compressed)), context_(ZSTD_createDCtx(), ZSTD_freeDCtx), buffer_(ZSTD_DStreamInSize()) {
    if (!context_) throw Error::Runtime("out of memory for zstd");
    ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, kMaxWindowLog);
  }

  size_t Read(char* out, size_t size) override {
    ZSTD_outBuffer output = {out, size, 0};
    while (output.pos == 0) {
      if (input_.pos == input_.size && !Refill()) {
        // What zstd still holds may not have fitted into the last output; otherwise the file is at its end.
        if (!pending_) return 0;
      }
      const size_t status = ZSTD_decompressStream(context_.get(), &output, &input_);
      if (ZSTD_isError(status)) throw Error::Data(std::string("the zstd compression is damaged: ") + ZSTD_getErrorName(status));
      pending_ = status != 0 && output.pos == output.size;
      within_frame_ = status != 0;
    }
    return output.pos;
  }

  bool AtEnd() override {
    char byte;
    if (Read(&byte, 1) != 0) return false;
    if (within_frame_) throw Error::Data("the zstd compression is cut off within its last frame");
    return true;
  }

 private:
  bool Refill() {
    input_ = {buffer_.data(), compressed_->Read(buffer_.data(), buffer_.size()), 0};
    return input_.size > 0;
  }

  std::unique_ptr<ByteSource> compressed_;
  std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx*)> context_;
  std::vector<char> buffer_;
  ZSTD_inBuffer input_ = {nullptr, 0, 0};
  bool pending_ = false;  ///< the last output was filled, so more may be waiting
  bool within_frame_ = false;
};

class ZstdSink final : public ByteSink {
 public:
  explicit ZstdSink(std::unique_ptr<ByteSink> compressed)
      : compressed_(std::move(compressed)), context_(ZSTD_createCCtx(), ZSTD_freeCCtx), buffer_(ZSTD_CStreamOutSize()) {
    if (!context_) throw Error::Runtime("out of memory for zstd");
    ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, kLevel);
    ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_checksumFlag, 1);
  }

  void Write(std::string_view bytes) override {
    while (!bytes.empty()) {
      const std::string_view part = bytes.substr(0, kFrameBytes - frame_bytes_);
      Compress(part, ZSTD_e_continue);
      frame_bytes_ += part.size();
      bytes.remove_prefix(part.size());
      if (frame_bytes_ == kFrameBytes) Flush();
    }
  }

  size_t WriteSome(std::string_view bytes) override {
    Write(bytes);
    return bytes.size();
  }

  void Flush() override {
    if (frame_bytes_ == 0) return;
    Compress({}, ZSTD_e_end);
    frame_bytes_ = 0;
  }

  void Finish() override {
    Flush();
    compressed_->Finish();
  }

 private:
  void Compress(std::string_view bytes, ZSTD_EndDirective directive) {
    ZSTD_inBuffer input = {bytes.data(), bytes.size(), 0};
    size_t left = 0;
    do {
      ZSTD_outBuffer output = {buffer_.data(), buffer_.size(), 0};
      left = ZSTD_compressStream2(context_.get(), &output, &input, directive);
      if (ZSTD_isError(left)) throw Error::Runtime(std::string("zstd cannot compress: ") + ZSTD_getErrorName(left));
      compressed_->Write({buffer_.data(), output.pos});
    } while (directive == ZSTD_e_end ? left > 0 : input.pos < input.size);
  }

  std::unique_ptr<ByteSink> compressed_;
  std::unique_ptr<ZSTD_CCtx, size_t (*)(ZSTD_CCtx*)> context_;
  std::vector<char> buffer_;
  size_t frame_bytes_ = 0;
};

}  // namespace

std::unique_ptr<ByteSource> MakeZstdSource(std::unique_ptr<ByteSource> compressed) { return std::make_unique<ZstdSource>(std::move(compressed)); }
std::unique_ptr<ByteSink> MakeZstdSink(std::unique_ptr<ByteSink> compressed) { return std::make_unique<ZstdSink>(std::move(compressed)); }

}  // namespace april::stream
