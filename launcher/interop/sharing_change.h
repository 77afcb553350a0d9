// Changes which layer may use which expert, without a change of what the model computes where that is
// possible: a vanilla MoE is a pool whose layers see their own experts alone, and a dense model is one whose
// layers see one expert each (models/visibility.h). launcher/interop/INTEROP.md says why each of them is
// exact.
#pragma once

#include <string>

#include "launcher/experts/saved_model.h"

namespace unipool {

enum class ImportAs { kPool, kPrivate, kDense };
// pool, private, dense. Throws UserError for another name.
ImportAs ImportAsNamed(const std::string& name);

struct SharingOptions {
  ImportAs as = ImportAs::kPool;
  int32_t experts = 0;    // M of the result; 0: as many as the model has
  bool sees_all = false;  // of a pool: all layers may choose from all of it at once
};

struct SharingChange {
  bool is_exact = true;  // logits are the same, but for the order of sums
  std::string reason;    // why, or why not; a sentence without a full stop
};

// Changes settings and weights. Moments are zero in what is new; a model that has learned loses those of its
// routers' rows. Throws UserError where the model cannot be so. REQUIRES: no state between steps.
SharingChange ChangeSharing(const SharingOptions& options, SavedModel& model);

}  // namespace unipool
