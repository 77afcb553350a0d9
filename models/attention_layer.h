// The upper half of a decoder layer: h = x + o_proj(attention(rope(qkv_proj(RMSNorm(x))))). LLaMA's block
// without biases.
#pragma once

#include "kernels/attention.h"
#include "models/dense_parameters.h"
#include "models/model_spec.h"

namespace unipool {

// Cosines and sines of the rotary embedding, shared by all layers.
struct RopeTables {
  Tensor cos, sin;  // [s, d/2]
};

class AttentionLayer {
 public:
  // What the backward needs of one microbatch. T tokens. All but x can be computed again (Recompute), so it
  // may lie in memory that is written over in between.
  struct Saved {
    Tensor x;        // [T, D] input; written by the layer below
    Tensor inv_rms;  // [T], of AccumulatorOf(the dtype), as lse
    Tensor normed;   // [T, D]
    Tensor qkv;      // [T, (H+2G)d] rotated
    Tensor mixed;    // [T, H d] attention's output
    Tensor lse;      // [T, H]
  };

  // Lays the fields of `saved` but x out from `base` on (which may be null); returns the bytes they take.
  static int64_t PlaceInternals(const ModelSpec& spec, int64_t tokens, DType dtype, char* base, Saved& saved);

  // Declares the layer's parameters; usable after parameters.Allocate.
  AttentionLayer(const ModelSpec& spec, int layer, DenseParameters& parameters, Stream& stream);

  void Forward(const AttentionShape& shape, const RopeTables& rope, const Saved& saved,
               const Tensor& out /*[T, D]*/);
  // Fills saved but x again, from x: the same numbers bit for bit. Costs the forward but its last product.
  void Recompute(const AttentionShape& shape, const RopeTables& rope, const Saved& saved);
  // dout [T, D] becomes the gradient of the input, in place. `scratch` [T, D + (H+2G)d + H d].
  void Backward(const AttentionShape& shape, const RopeTables& rope, const Saved& saved, const Tensor& dout,
                Buffer& scratch);
  // One token at `position`, against its cache [positions, 2 G d]: x [1, D] -> out [1, D]. `saved` gives the
  // memory.
  void Decode(const AttentionShape& shape, const RopeTables& rope, const Saved& saved, const Tensor& cache,
              int64_t position, const Tensor& out);

 private:
  void ProjectQkv(const Saved& saved);
  void ProjectOut(const Saved& saved, const Tensor& out);
  const ModelSpec& spec_;
  DenseParameters& parameters_;
  Stream& stream_;
  DenseParameters::Id norm_, q_, o_;  // q_, k, v lie one after another
};

}  // namespace unipool
