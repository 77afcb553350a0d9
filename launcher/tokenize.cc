#include "launcher/tokenize.h"

#include <gflags/gflags.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "launcher/commands.h"
#include "launcher/indexed_dataset_writer.h"
#include "launcher/tokenize_input.h"
#include "launcher/tokenize_pipeline.h"
#include "launcher/tokenize_progress.h"
#include "runtime/errors.h"
#include "runtime/world.h"

DEFINE_string(input, "", "tokenize: files of JSON lines, separated by commas");
DEFINE_string(output_prefix, "", "tokenize: writes OUTPUT_PREFIX_KEY_document.bin and .idx");
DEFINE_string(key, "text", "tokenize: JSON key of the text");
DEFINE_bool(append_eod, true, "tokenize: end each document with end-of-text (bytes: there is none)");
DEFINE_int32(threads, 0, "tokenize: threads; 0: one a core");

namespace unipool {

namespace {

constexpr size_t kChunkBytes = 1 << 20;

// The documents of one chunk, ready to be written.
struct TokenizedChunk {
  std::vector<uint8_t> bytes;
  std::vector<int32_t> lengths;  // tokens of each document
  int64_t num_tokens = 0;
  int64_t num_input_bytes = 0;
};

class ChunkTokenizer {
 public:
  ChunkTokenizer(const Tokenizer& tokenizer, std::string key, bool append_eod)
      : tokenizer_(tokenizer), key_(std::move(key)), append_eod_(append_eod) {}

  TokenType type() const { return TokenTypeFor(tokenizer_.vocab_size()); }

  TokenizedChunk operator()(const LineChunk& chunk) const {
    TokenizedChunk result;
    result.num_input_bytes = static_cast<int64_t>(chunk.text.size());
    std::string text;
    std::vector<int32_t> ids;
    std::string_view rest = chunk.text;
    for (int64_t line = chunk.first_line; !rest.empty(); ++line) {
      const size_t end = std::min(rest.find('\n'), rest.size());
      const std::string_view content = rest.substr(0, end);
      rest.remove_prefix(std::min(end + 1, rest.size()));
      if (content.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      try {
        ExtractText(content, key_, text);
        AddDocument(text, ids, result);
      } catch (const UserError& error) {
        throw UserError(Format("%s, line %d: %s", chunk.path.c_str(), line, error.what()));
      }
    }
    return result;
  }

 private:
  void AddDocument(const std::string& text, std::vector<int32_t>& ids, TokenizedChunk& result) const {
    ids.clear();
    tokenizer_.Encode(text, ids);
    if (!ids.empty() && append_eod_) ids.push_back(tokenizer_.end_of_text());
    if (ids.size() > INT32_MAX)
      throw UserError("has more than 2^31 tokens; an index cannot hold such a document");
    AppendTokens(ids, type(), result.bytes);
    result.lengths.push_back(static_cast<int32_t>(ids.size()));
    result.num_tokens += static_cast<int64_t>(ids.size());
  }

  const Tokenizer& tokenizer_;
  const std::string key_;
  const bool append_eod_;
};

void CheckInput(const std::string& path, Problems& problems) {
  std::error_code error;
  if (path.ends_with(".xz")) {
    problems.Add(
        Format("--input %s: is compressed; unpack it first with: xz -dk %s", path.c_str(), path.c_str()));
  } else if (path.ends_with(".gz") || path.ends_with(".zst") || path.ends_with(".bz2")) {
    problems.Add(Format("--input %s: is compressed; unpack it first", path.c_str()));
  } else if (!std::filesystem::exists(path, error)) {
    problems.Add(Format("--input %s: no such file", path.c_str()));
  } else if (std::filesystem::is_directory(path, error)) {
    problems.Add(Format("--input %s: is a folder; name the files in it, separated by commas", path.c_str()));
  }
}

void CheckOptions(const TokenizeOptions& options) {
  Problems problems;
  if (options.input.empty()) problems.Add("--input is empty; name one or more files of JSON lines");
  for (const std::string& path : options.input) CheckInput(path, problems);
  const std::filesystem::path folder = std::filesystem::path(options.output_prefix).parent_path();
  if (options.output_prefix.empty()) {
    problems.Add("--output_prefix is empty; name the dataset to write, for example data/books");
  } else if (!folder.empty() && !std::filesystem::is_directory(folder)) {
    problems.Add(Format("--output_prefix %s: there is no folder %s; make it first",
                        options.output_prefix.c_str(), folder.c_str()));
  }
  if (options.key.empty()) problems.Add("--key is empty; name the JSON key of the text, for example text");
  if (options.threads < 0) {
    problems.Add(Format("--threads %d is negative; give a number, or 0 for one a core", options.threads));
  }
  if (options.tokenizer.kind == "bytes" && options.append_eod == true) {
    problems.Add("--append_eod: --tokenizer bytes has no end-of-text token; leave the flag out");
  }
  problems.ThrowIfAny();
}

// Bytes of all inputs, or 0 if one of them is no regular file.
int64_t TotalBytes(const std::vector<std::string>& paths) {
  int64_t total = 0;
  for (const std::string& path : paths) {
    std::error_code error;
    const auto size = std::filesystem::file_size(path, error);
    if (error) return 0;
    total += static_cast<int64_t>(size);
  }
  return total;
}

}  // namespace

std::string Tokenize(const TokenizeOptions& options) {
  CheckOptions(options);
  const std::unique_ptr<Tokenizer> tokenizer = MakeTokenizer(options.tokenizer);
  const bool append_eod = options.append_eod.value_or(tokenizer->end_of_text() >= 0);
  if (append_eod && tokenizer->end_of_text() < 0) {
    throw UserError(
        Format("--vocab %s: has no token <|endoftext|> to end documents with; give --append_eod=false",
               options.tokenizer.vocab.c_str()));
  }
  const ChunkTokenizer chunk_tokenizer(*tokenizer, options.key, append_eod);
  const std::string prefix = options.output_prefix + "_" + options.key + "_document";
  LineReader reader(options.input, kChunkBytes);
  IndexedDatasetWriter writer(prefix, chunk_tokenizer.type());
  TokenizeProgress progress(TotalBytes(options.input));

  OrderedPipeline<LineChunk, TokenizedChunk> pipeline;
  pipeline.next = [&](LineChunk& chunk) { return reader.Next(chunk); };
  pipeline.work = [&](LineChunk& chunk) { return chunk_tokenizer(chunk); };
  pipeline.finish = [&](TokenizedChunk& chunk) {
    writer.Add(chunk.bytes, chunk.lengths);
    progress.Add(chunk.num_input_bytes, static_cast<int64_t>(chunk.lengths.size()), chunk.num_tokens);
  };
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  pipeline.Run(options.threads > 0 ? options.threads : cores);
  writer.Finish();
  progress.Finish();
  return prefix;
}

int TokenizeCommand(const CommandLine& /*command_line*/) {
  if (JoinsMpi() && WorldSize({}) > 1) {
    throw UserError(
        "tokenize runs as one process and uses all cores of it (--threads): start it without mpirun");
  }
  TokenizeOptions options;
  options.input = SplitAtCommas(FLAGS_input);
  options.output_prefix = FLAGS_output_prefix;
  options.key = FLAGS_key;
  options.tokenizer = TokenizerOptionsFromFlags();
  options.threads = FLAGS_threads;
  if (!gflags::GetCommandLineFlagInfoOrDie("append_eod").is_default) options.append_eod = FLAGS_append_eod;
  std::printf("%s\n", Tokenize(options).c_str());
  return 0;
}

}  // namespace unipool
