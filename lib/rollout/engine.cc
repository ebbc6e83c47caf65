#include "rollout/engine.h"

namespace april::rollout {

const char* Name(KvOrigin origin) {
  switch (origin) {
    case KvOrigin::kFresh:
      return "fresh";
    case KvOrigin::kRecomputed:
      return "recomputed";
    case KvOrigin::kKept:
      return "kept";
  }
  return "";
}

}  // namespace april::rollout
