// How much text a token is. Losses in nats a token are other measures for other tokenizers; in nats a byte of
// text they can be compared.
#pragma once

#include <cstdint>

#include "launcher/data/token_dataset.h"
#include "launcher/tokens/tokenizer.h"

namespace unipool {

// Mean bytes of text of a predicted token in the first `num_samples` samples, sources counting as in MeanLoss
// (batch_reader.h): a mean loss / this is in nats a byte. The end of a document has no bytes, and neither
// have ids beyond the tokenizer. Reads all these samples. 0 where they hold no text. Throws UserError as
// TokenDataset::ReadOf.
double BytesPerToken(const TokenDataset& dataset, int64_t num_samples, int64_t seq_length,
                     const Tokenizer& tokenizer);

// Of a mean loss in nats a token. REQUIRES: bytes_per_token > 0.
double BitsPerByte(double loss, double bytes_per_token);

}  // namespace unipool
