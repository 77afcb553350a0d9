// The upper half of a decoder layer, LLaMA's block without biases. Letters: README.md.
//
//   h = x + o_proj(attention(rope(qkv_proj(RMSNorm(x)))))
#pragma once

#include "kernels/attention.h"
#include "models/dense_parameters.h"
#include "models/model_spec.h"
#include "models/rope_tables.h"

namespace unipool {

class AttentionLayer {
 public:
  // What the backward needs of one microbatch of T tokens. FillSaved computes all but x again, so all but x
  // may lie in memory that is written over between forward and backward.
  struct Saved {
    Tensor x;        // [T, D] input; written by the layer below
    Tensor inv_rms;  // [T], of AccumulatorOf(the dtype)
    Tensor normed;   // [T, D]
    Tensor qkv;      // [T, (H+2G)d] rotated
    Tensor mixed;    // [T, H d] attention's output
    Tensor lse;      // [T, H], of AccumulatorOf(the dtype)
  };

  // Lays all fields of `saved` but x out, one behind the other from `base` on. Returns the bytes that they
  // take. With base null it only counts the bytes.
  static int64_t PlaceInternals(const ModelSpec& spec, int64_t tokens, DType dtype, char* base, Saved& saved);
  static int64_t InternalBytes(const ModelSpec& spec, int64_t tokens, DType dtype);

  // Declares the layer's parameters; usable after parameters.Allocate.
  AttentionLayer(const ModelSpec& spec, int layer, DenseParameters& parameters, Stream& stream);

  void Forward(const AttentionShape& shape, const RopeTables& rope, const Saved& saved,
               const Tensor& out /*[T, D]*/);
  // Fills all of `saved` but x, from x. A second call gives the same numbers bit for bit. Costs the forward
  // without its last product.
  void FillSaved(const AttentionShape& shape, const RopeTables& rope, const Saved& saved);
  // dout [T, D] becomes the gradient of the input, in place. `scratch` [T, D + (H+2G)d + H d].
  void Backward(const AttentionShape& shape, const RopeTables& rope, const Saved& saved, const Tensor& dout,
                Buffer& scratch);
  // Generation: one token at `position`, saved.x [1, D] -> out [1, D]. `cache` [positions, 2 G d] holds the
  // keys and values of the earlier positions and gets those of this one. `saved` gives the memory.
  void Decode(const AttentionShape& shape, const RopeTables& rope, const Saved& saved, const Tensor& cache,
              int64_t position, const Tensor& out);

 private:
  void ProjectQkv(const Saved& saved);
  void ProjectOut(const Saved& saved, const Tensor& out);
  const ModelSpec& spec_;
  DenseParameters& parameters_;
  Stream& stream_;
  DenseParameters::Id norm_, q_, o_;  // the matrices q, k and v lie one behind the other
};

}  // namespace unipool
